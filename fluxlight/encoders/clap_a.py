"""CLAP-A: the audio-text model that conditions, scores and selects. A 2-D CNN over log-mels; pooled MiniLM text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fluxlight.encoders.base import TextAudioModel
from fluxlight.encoders.front_end import FrontEnd, mel_bank
from fluxlight.encoders.minilm import MiniLM
from fluxlight.weights.frozen import shipped


class ClapA(TextAudioModel):
    """A joint 128-wide embedding of music and text, trained on the corpus split ``judge_a`` (sizes: our choice).

    ::

        audio -> RMS 1 -> 64 log-mels, 43 frames/s -> 4 conv blocks (bands / 16, time / 8) -> 2 temporal blocks
              -> mean, deviation and maximum over time -> MLP -> 128
        text  -> MiniLM, mean over tokens (384)  -> MLP -> 128

    Args:
        weights: ``shipped`` = the frozen weights of the package; a path; or None for an untrained model.
    """

    name = "clap-a"

    def __init__(self, weights: str | None = "shipped") -> None:
        super().__init__()
        self._text = (MiniLM(),)  # in a tuple: off the module tree, not part of the weights
        self.front_end = FrontEnd(2048, 1024, mel_bank(2048, 64, 30.0, 16000.0), "log")
        widths = (1, 24, 48, 96, 128)
        strides = ((2, 2), (2, 2), (2, 2), (2, 1))
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
                for i, o, stride in zip(widths, widths[1:], strides, strict=False)
            )
        )
        self.fold = nn.Sequential(nn.Conv1d(128 * 4, 224, 1, bias=False), nn.BatchNorm1d(224), nn.ReLU())
        self.temporal = nn.ModuleList(_Temporal(224, dilation) for dilation in (1, 3))
        self.audio_head = nn.Sequential(nn.Linear(3 * 224, 256), nn.ReLU(), nn.Linear(256, self.dim))
        self.text_head = nn.Sequential(nn.Linear(MiniLM.dim, 256), nn.ReLU(), nn.Linear(256, self.dim))
        if weights is not None:
            self.load(shipped("clap_a.safetensors") if weights == "shipped" else weights)

    def audio_tower(self, features: Tensor) -> Tensor:
        """Log-mels ``(B, 64, frames)`` -> ``(B, 128)``."""
        x = self.blocks(self.front_end.standardise(features)[:, None])
        x = self.fold(x.flatten(1, 2))
        for block in self.temporal:
            x = block(x)
        deviation = x.var(-1, correction=0).clamp(min=1e-6).sqrt()
        return self.audio_head(torch.cat([x.mean(-1), deviation, x.amax(-1)], dim=-1))

    def text_features(self, texts: Sequence[str]) -> list[Tensor]:
        """One pooled feature per text, ``(1, 384)`` each."""
        return list(self._text[0].pooled(texts)[:, None])

    def text_tower(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Pooled features ``(B, 1, 384)`` -> ``(B, 128)``; unit norm in, scaled to unit variance for the MLP."""
        return self.text_head(features[:, 0] * MiniLM.dim**0.5)


class _Temporal(nn.Module):
    """A residual convolution over time; two of them see about 2.5 s, more than a bar at most tempi."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + functional.relu(self.norm(self.conv(x)))
