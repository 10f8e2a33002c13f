"""Published judges in miniature: files in the published formats, with random weights, for the tests that load them."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fluxlight.rewards.tunejury import RELEASED, TuneJury

TEXTS = ["a calm piano", "", "loud drums and a bass line"]
BYTES = [chr(b) for b in (*range(33, 127), *range(161, 173), *range(174, 256))]
BYTES += [chr(256 + i) for i in range(256 - len(BYTES))]


def roberta_folder(folder: Path, size: int) -> Path:
    """A byte-level BPE tokenizer of ``size`` tokens with RoBERTa's special ones and no merges."""
    vocab = ["<s>", "<pad>", "</s>", "<unk>", *BYTES]
    vocab += [f"tok{i}" for i in range(size - len(vocab) - 1)] + ["<mask>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(vocab)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return folder


@lru_cache
def laion_state(width: int = 96, vocabulary: int = 300, layers: int = 1, inner: int = 64) -> dict[str, torch.Tensor]:
    """State dict of laion-clap's own network, no weight at its initial value; shared, so leave it as it is."""
    if not find_spec("laion_clap"):
        pytest.skip("laion-clap, whose network makes this checkpoint, is not for this Python")
    from fluxlight.encoders.clap_keys import Sizes
    from fluxlight.encoders.laion_clap_import import _build

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state: dict[str, torch.Tensor] = _build(Sizes(width, vocabulary, 768, layers, inner, 514)).state_dict()
    draw = torch.Generator().manual_seed(0)
    for key, value in state.items():
        if value.is_floating_point() and not any(name in key for name in ("melW", "stft", "attn_mask")):
            value.add_(0.05 * torch.randn(value.shape, generator=draw))
    # log-mels are about -30 dB with 20 dB of spread
    state["audio_branch.bn0.running_mean"] -= 30
    state["audio_branch.bn0.running_var"] = 400 * state["audio_branch.bn0.running_var"].abs()
    return state


def laion_file(path: Path, state: dict[str, torch.Tensor], **more: Any) -> Path:
    """A checkpoint as LAION writes it: ``module.`` before each name, optimiser settings as numpy's numbers beside."""
    named = {f"module.{key}": value for key, value in state.items()}
    lr = {"param_groups": [{"lr": np.float64(1e-4)}], "step": np.int64(3)}
    torch.save({"epoch": 15, "name": "x", "state_dict": named | more, "optimizer": lr}, path)
    return path


def mert_folder(folder: Path, hidden: int = 32, **settings: Any) -> Path:
    """A MERT folder: the published config keys, and weights under the names of the torch of its time."""
    from transformers import HubertConfig, HubertModel

    sizes: dict[str, Any] = {
        "hidden_size": hidden, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2],
        "feat_extract_norm": "layer", "do_stable_layer_norm": True,
    } | settings  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = HubertModel(HubertConfig(**sizes)).state_dict()
    draw = torch.Generator().manual_seed(1)
    state = {key: value + 0.1 * torch.randn(value.shape, generator=draw) for key, value in state.items()}
    old = {"original0": "weight_g", "original1": "weight_v"}
    for new, name in old.items():
        state[f"encoder.pos_conv_embed.conv.{name}"] = state.pop(
            f"encoder.pos_conv_embed.conv.parametrizations.weight.{new}"
        )
    folder.mkdir(parents=True)
    own = {"model_type": "mert_model", "architectures": ["MERTModel"], "auto_map": {"AutoModel": "modeling.MERTModel"}}
    own |= {"feature_extractor_cqt": False, "deepnorm": False, "attention_relax": -1.0, "sample_rate": 24000}
    (folder / "config.json").write_text(json.dumps(sizes | own))
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 24000, "do_normalize": True}))
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def t5_folder(folder: Path, width: int = 8) -> Path:
    """A T5 with encoder and decoder as published, ``width`` wide, and a tokenizer of single letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    pieces = ["<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz,"]
    model = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=2, byte_fallback=False))
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    model.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = T5ForConditionalGeneration(
            T5Config(
                vocab_size=64, d_model=width, d_kv=4, d_ff=16, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
            )
        )
    network.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def music(seconds: float = 10.0, rate: int = 44100, clips: int = 2, seed: int = 0) -> torch.Tensor:
    """Decaying chords over quiet noise ``(clips, N)``."""
    draw = torch.Generator().manual_seed(seed)
    t = torch.arange(round(seconds * rate)) / rate
    notes = 110 * 2 ** (torch.randint(0, 36, (clips, 3, 1), generator=draw) / 12)
    tones = torch.sin(2 * torch.pi * notes * t).sum(1) * torch.exp(-4 * (t % 0.5))
    return 0.2 * tones + 0.003 * torch.randn(clips, len(t), generator=draw)


def demucs_bag(folder: Path) -> None:
    """A bag in the published layout with one tiny model in it."""
    from demucs.hdemucs import HDemucs
    from demucs.states import save_with_checksum, serialize_model
    from omegaconf import OmegaConf

    folder.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = HDemucs(["drums", "bass", "other", "vocals"], channels=4, samplerate=44100, segment=10)
    save_with_checksum(serialize_model(model, OmegaConf.create({}), half=False), folder / "e51eebcc.th")
    (folder / "mdx_extra.yaml").write_text("models: ['e51eebcc']\nsegment: 10\n")


def head(path: Path, layout: tuple[str, int], widths: tuple[int, ...] = (16, 8)) -> str:
    """A head in the released format, its BatchNorm away from the identity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(layout[1])
        made = TuneJury(RELEASED[layout], widths, prefix=layout[0])
        for name, buffer in made.named_buffers():
            if "running" in name:
                buffer.add_(0.3 * torch.rand(buffer.shape))
        torch.save(made.export(), path)
    return str(path)
