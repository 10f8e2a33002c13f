"""LAION-CLAP checkpoints: how one is read, which sizes it has, and its names in transformers' ClapModel."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fluxlight.weights.foreign import read_weights
from fluxlight.weights.strict import check_finite

REMEDY = "fetch music_audioset_epoch_15_esc_90.14.pt or another non-fusion LAION-CLAP with an HTSAT audio branch"

AUDIO = {96: ("tiny", (2, 2, 6, 2)), 128: ("base", (2, 2, 12, 2)), 256: ("large", (2, 2, 12, 2))}
"""HTSAT by the width of its patches: name and depth of its four stages (laion-clap 1.1.7)."""

HEADS = (4, 8, 16, 32)

# tables that are counted, not learned; written by some versions of transformers and not by others
_COUNTED = ("text_branch.embeddings.position_ids", "text_branch.embeddings.token_type_ids")


@dataclass(frozen=True)
class Sizes:
    """Sizes of a checkpoint, read off its tensors.

    Attributes:
        width: of an HTSAT patch.
        vocabulary: tokens of the text branch.
        hidden: width of the text branch.
        layers: of the text branch.
        inner: width of its feed-forward layers.
        positions: rows of its position table.
    """

    width: int
    vocabulary: int
    hidden: int
    layers: int
    inner: int
    positions: int

    def text(self) -> dict[str, Any]:
        """The text branch as a config of RoBERTa; what the sizes do not say is roberta-base's."""
        return {
            "vocab_size": self.vocabulary, "hidden_size": self.hidden, "num_hidden_layers": self.layers,
            "num_attention_heads": self.hidden // 64, "intermediate_size": self.inner,
            "max_position_embeddings": self.positions, "type_vocab_size": 1, "layer_norm_eps": 1e-5,
            "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
        }  # fmt: skip

    def audio(self) -> dict[str, Any]:
        """The audio branch as a config of transformers' ClapAudioModel."""
        return {
            "patch_embeds_hidden_size": self.width, "depths": list(AUDIO[self.width][1]), "hidden_size": 8 * self.width,
            "num_attention_heads": list(HEADS), "enable_fusion": False, "projection_dim": 512,
        }  # fmt: skip


def read_laion(path: Path) -> dict[str, Tensor]:
    """The state dict of a LAION-CLAP checkpoint under its own names, without ``module.`` and counted tables."""
    state = read_weights(path, "LAION-CLAP checkpoint", REMEDY)
    if any("mel_conv2d" in key or "fusion_model" in key for key in state):
        raise ValueError(f"{path} is a fusion model, which takes four crops of a clip: {REMEDY}")
    check_finite(state, str(path), REMEDY)
    return {key: value for key, value in state.items() if key not in _COUNTED}


def sizes(state: dict[str, Tensor], source: Path) -> Sizes:
    """Sizes of a checkpoint; one that is no LAION-CLAP is an error."""
    names = {
        "patches": "audio_branch.patch_embed.proj.weight",
        "words": "text_branch.embeddings.word_embeddings.weight",
        "positions": "text_branch.embeddings.position_embeddings.weight",
        "inner": "text_branch.encoder.layer.0.intermediate.dense.weight",
        "bank": "audio_branch.logmel_extractor.melW",
    }
    absent = [name for name in names.values() if name not in state]
    if absent:
        raise ValueError(f"{source} has no {absent[0]}, so it is no LAION-CLAP: {REMEDY}")
    shapes = {what: tuple(state[name].shape) for what, name in names.items()}
    if shapes["patches"][0] not in AUDIO or shapes["bank"] != (513, 64):
        raise ValueError(f"{source} has patches {shapes['patches']} and mel bank {shapes['bank']}: {REMEDY}")
    layers = {int(match[1]) for key in state if (match := re.match(r"text_branch\.encoder\.layer\.(\d+)\.", key))}
    return Sizes(
        width=shapes["patches"][0], vocabulary=shapes["words"][0], hidden=shapes["words"][1], layers=len(layers),
        inner=shapes["inner"][0], positions=shapes["positions"][0],
    )  # fmt: skip


# in order: each pattern is replaced wherever it is found
_RENAMED = (
    (r"^text_branch\.", "text_model."),
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"_projection\.0\.", "_projection.linear1."),
    (r"_projection\.2\.", "_projection.linear2."),
    (r"\.bn0\.", ".batch_norm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.(relative_position)", r".attention.self.\1"),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
# the tagging head, the front end (computed here), masks of shifted windows, and the MLPs of another training loss
_UNUSED = re.compile(
    r"audio_branch\.(tscam_conv|head|spectrogram_extractor|logmel_extractor)\.|.*\.attn_mask$|(audio|text)_transform\."
)


def to_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the names of transformers' ClapModel; query, key and value apart."""
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        if _UNUSED.match(key):
            continue
        for pattern, name in _RENAMED:
            key = re.sub(pattern, name, key)
        if ".attn.qkv." in key:
            for part, tensor in zip(("query", "key", "value"), value.chunk(3), strict=True):
                out[key.replace(".attn.qkv.", f".attention.self.{part}.")] = tensor
        else:
            out[key] = value
    return out
