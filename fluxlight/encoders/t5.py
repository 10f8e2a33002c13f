"""T5, the published text encoder: flan-t5-large, token features of the last hidden layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from fluxlight.encoders.base import TextEncoder
from fluxlight.encoders.pretrained import Tokenizer, silent
from fluxlight.weights.frozen import tensor_digest
from fluxlight.weights.strict import check_finite, some

NAME = "flan-t5-large"
CHUNK = 32  # texts per forward pass (our choice)


class T5(TextEncoder):
    """Frozen flan-t5-large encoder: 77 x 1024 token features; longer texts are cut with one warning.

    What stands in the rows past the end of a text is the ``padding``:

    - ``published``: what the encoder gives at its padding tokens. Text attends to text alone, but those rows are not
      zero, and the published FluxAudio checkpoints were trained on them, unmasked (FACTS section 6). Every text then
      has 77 rows, in a store too.
    - ``zero``: zeros, the rows past the end cut off in a store (84 GB against about 20 for 535 k captions, FACTS
      section 8). For networks trained from scratch; a published checkpoint has never met such input.

    The rows of the text itself are the same either way. `encode_masked` says which those are.

    Args:
        path: folder of the model in transformers' layout; by default ``flan-t5-large`` of the weights folder.
        padding: see above.
    """

    dim = 1024

    def __init__(self, path: str | None = None, padding: Literal["published", "zero"] = "published") -> None:
        super().__init__()
        from fluxlight.weights import locate

        if padding not in ("published", "zero"):
            raise ValueError(f"padding is {padding!r}: use published or zero")
        folder = locate(NAME, path)
        self.padding = padding
        self.model = _load(folder)
        self.dim = int(self.model.config.d_model)
        rows = self.model.shared.num_embeddings
        self.tokenizer = Tokenizer(
            folder, "AutoTokenizer", rows, {"<pad>": 0, "</s>": 1}, spare=128, length=self.length
        )
        self.identity = f"{NAME}-{padding}-{tensor_digest(self.model.state_dict())[:8]}"

    def encode_ragged(self, texts: Sequence[str]) -> list[Tensor]:
        """Token features of each text ``(n_i, 1024)`` float32; n_i = 77 with the published padding."""
        features, mask = self.encode_masked(texts)
        return [row if self.padding == "published" else row[kept] for row, kept in zip(features, mask, strict=True)]

    @torch.no_grad()
    def encode_masked(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Features of all 77 positions ``(B, 77, 1024)`` and which of them are text ``(B, 77)`` bool."""
        ids, device = self.tokenizer(texts), self.model.shared.weight.device
        tokens = torch.zeros(len(ids), self.length, dtype=torch.long)
        mask = torch.zeros(len(ids), self.length, dtype=torch.bool)
        for row, own in enumerate(ids):
            tokens[row, : len(own)] = torch.tensor(own)
            mask[row, : len(own)] = True
        tokens, mask = tokens.to(device), mask.to(device)
        out = [torch.zeros(0, self.length, self.dim, device=device)]
        for start in range(0, len(ids), CHUNK):
            part = slice(start, start + CHUNK)
            out.append(self.model(input_ids=tokens[part], attention_mask=mask[part].long()).last_hidden_state)
        return torch.cat(out), mask


def _load(folder: Path) -> Any:
    from transformers import T5EncoderModel

    remedy = f"fetch {NAME} again, or give its folder as path"
    try:
        with silent(), torch.random.fork_rng(devices=[]):
            loaded: Any = T5EncoderModel.from_pretrained(
                folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # transformers, safetensors and pickle each raise their own
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"{folder} holds no readable T5 encoder ({reason}): {remedy}") from None
    model, report = loaded
    # what is missing would be left at random values
    absent = sorted(str(key) for key in (*report["missing_keys"], *report["mismatched_keys"]))
    if absent:
        raise ValueError(f"the weights in {folder} lack {some(absent)} ({len(absent)} names): {remedy}")
    check_finite(model.state_dict(), str(folder), remedy)
    return model.eval().requires_grad_(False)
