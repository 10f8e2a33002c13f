"""What a score head is: score embedding with a null, sent into one port of the backbone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from fluxlight.backbone.base import Injection, Ports
from fluxlight.recorded import Recorded

__all__ = ["Injection", "Ports", "ScoreEmbedder", "ScoreHead"]


class ScoreEmbedder(nn.Module):
    """Fourier features of a score, then Linear, SiLU, Linear with a zero-initialised last layer (FACTS section 2).

    f = 2 pi s w with w ~ N(0, 1), frozen and saved; cat(cos, sin) is 256 -> h -> h. The null is a mask that zeroes
    the embedding: it has no parameter and no sentinel value.

    Args:
        width: features of the result, h.
        frequencies: number of random frequencies.
    """

    frequencies: Tensor

    def __init__(self, width: int, frequencies: int = 128) -> None:
        super().__init__()
        # a fixed seed of our own: every head starts from the same features, whatever was drawn before
        draw = torch.randn(frequencies, generator=torch.Generator().manual_seed(0))
        self.register_buffer("frequencies", draw)
        last = nn.Linear(width, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), last)

    def forward(self, score: Tensor, keep: Tensor) -> Tensor:
        """Embedding ``(B, h)`` of ``score`` ``(B,)``; exactly zero where ``keep`` ``(B,)`` is False."""
        # a null row may hold anything, NaN for a clip without a score included
        score = torch.where(keep, score, 0).float()
        angle = 2 * math.pi * score[:, None] * self.frequencies.float()
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1).to(next(self.mlp.parameters()).dtype)
        return self.mlp(waves) * keep[:, None]


class ScoreHead(Recorded, nn.Module, ABC):
    """A way to tell the backbone the score of a clip.

    A head is one file of this folder: subclass, take ``ports`` first and settings by name after it, implement
    `inject`. Every head holds its embedder as ``embedder``, so heads without parameters of their own share all
    names and their weights can be moved from one to another.

    Args:
        ports: sizes of the backbone.
    """

    def __init__(self, ports: Ports) -> None:
        super().__init__()
        self.embedder = ScoreEmbedder(ports.width)

    @abstractmethod
    def inject(self, embedding: Tensor, keep: Tensor) -> Injection:
        """Fill ports from the embedding ``(B, h)``, zero where ``keep`` ``(B,)`` bool is False (null score)."""

    def forward(self, score: Tensor, keep: Tensor) -> Injection:
        """What the backbone gets for scores ``(B,)``; rows where ``keep`` ``(B,)`` bool is False are null."""
        if score.dim() != 1 or score.shape != keep.shape:
            raise ValueError(f"score and keep must be (B,), got {tuple(score.shape)} and {tuple(keep.shape)}")
        if not torch.compiler.is_compiling() and not torch.isfinite(score[keep]).all():
            bad = score[keep][~torch.isfinite(score[keep])]
            raise ValueError(
                f"score holds {bad.numel()} non-finite value(s) such as {bad[0].item()}: drop those rows of the data, "
                "or give them a null score (keep False)"
            )
        return self.inject(self.embedder(score, keep), keep)
