"""CLAP-B: the audio-text model that only judges. A transformer over semitone bands; attention over MiniLM tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fluxlight.encoders.base import TextAudioModel
from fluxlight.encoders.front_end import FrontEnd, pitch_bank
from fluxlight.encoders.minilm import MiniLM
from fluxlight.weights.frozen import shipped

QUERIES = 6  # learned questions asked of a text's tokens (our choice)


class ClapB(TextAudioModel):
    """A joint 128-wide embedding of music and text, trained on the corpus split ``judge_b`` (sizes: our choice).

    Shares nothing with CLAP-A but the frozen MiniLM: other clips, tunes and caption templates, another front end
    (window, bands, compression) and another architecture on both sides.

    ::

        audio -> RMS 1 -> 96 semitone bands, 30 frames/s, sixth root -> strided convolutions (7.5 tokens/s)
              -> 3 transformer layers of width 192 -> mean and maximum over tokens -> 128
        text  -> MiniLM tokens (n, 384) -> 6 learned queries, attention pooling -> MLP -> 128

    Args:
        weights: ``shipped`` = the frozen weights of the package; a path; or None for an untrained model.
    """

    name = "clap-b"

    def __init__(self, weights: str | None = "shipped") -> None:
        super().__init__()
        self._text = (MiniLM(),)  # in a tuple: off the module tree, not part of the weights
        width = 192
        self.front_end = FrontEnd(4096, 1470, pitch_bank(4096, 96, 55.0), "root")
        self.patch = nn.Sequential(
            nn.Conv1d(96, width, 5, 2, 2),
            nn.BatchNorm1d(width),
            nn.GELU(),
            nn.Conv1d(width, width, 5, 2, 2),
            nn.BatchNorm1d(width),
            nn.GELU(),
        )
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(2 * width)
        self.audio_head = nn.Linear(2 * width, self.dim)
        self.query = nn.Linear(MiniLM.dim, QUERIES)
        self.value = nn.Linear(MiniLM.dim, self.dim)
        self.text_head = nn.Sequential(
            nn.GELU(), nn.Linear(QUERIES * self.dim, 256), nn.GELU(), nn.Linear(256, self.dim)
        )
        if weights is not None:
            self.load(shipped("clap_b.safetensors") if weights == "shipped" else weights)

    def audio_tower(self, features: Tensor) -> Tensor:
        """Band features ``(B, 96, frames)`` -> ``(B, 128)``."""
        x = self.patch(self.front_end.standardise(features)).transpose(1, 2)
        x = self.layers(x + _positions(x.shape[1], x.shape[2], x.device))
        return self.audio_head(self.norm(torch.cat([x.mean(1), x.amax(1)], dim=-1)))

    def text_features(self, texts: Sequence[str]) -> list[Tensor]:
        """Token features of each text, ``(n_i, 384)``."""
        return self._text[0].encode_ragged(texts)

    def text_tower(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Padded token features ``(B, T, 384)`` and lengths ``(B,)`` -> ``(B, 128)``."""
        outside = torch.arange(features.shape[1], device=features.device)[None] >= lengths[:, None]
        weight = self.query(features).masked_fill(outside[..., None], -torch.inf).softmax(dim=1)
        return self.text_head(torch.einsum("btq,btd->bqd", weight, self.value(features)).flatten(1))


def _positions(length: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines of the token's place, ``(length, width)``: any clip length fits."""
    place = torch.arange(length, device=device)[:, None]
    rate = 1000.0 ** (-torch.arange(0, width, 2, device=device) / width)
    return torch.cat([(place * rate).sin(), (place * rate).cos()], dim=-1)
