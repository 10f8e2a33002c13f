"""Measures as ``torchmetrics.Metric`` that need every embedding: gathered over processes, measured once.

They are for the slice (a hundred clips); what a reference of any size needs is in `fluxlight.metrics.streaming`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fluxlight.metrics.diversity import diversity
from fluxlight.metrics.kad import kad
from fluxlight.metrics.mad import mad
from fluxlight.metrics.reference import Reference
from fluxlight.metrics.streaming import Judged


class _Gathered(Judged):
    """A metric that keeps the embeddings of all clips."""

    rows: list[Tensor]

    def __init__(self, embedder: Any | None = None, **kwargs: Any) -> None:
        super().__init__(embedder, **kwargs)
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(
        self, audio: Tensor | None = None, sample_rate: int | None = None, embeddings: Tensor | None = None
    ) -> None:
        """Add clips, audio ``(B, N)`` or embeddings ``(B, d)``."""
        self.rows.append(self._embed(audio, sample_rate, embeddings))

    def _all(self) -> Tensor:
        return self.rows if isinstance(self.rows, Tensor) else torch.cat(self.rows) if self.rows else torch.zeros(0, 1)


class _AgainstReference(_Gathered):
    """A distance to the embeddings of a frozen reference.

    Args:
        reference: frozen reference that kept its embeddings; its embedder must be the one given here.
        embedder: object with ``embed_audio(audio (B, N), sample_rate) -> (B, d)`` and ``identity``; None when only
            embeddings are given.
        loudness: protocol of the clips that will be given; one at another loudness than the reference's is refused.
    """

    higher_is_better = False

    reference: Reference

    def __init__(
        self, reference: Reference, embedder: Any | None = None, loudness: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(embedder, **kwargs)
        if embedder is not None:
            reference.check(embedder.identity, loudness)
        reference.bandwidth()  # refuse a reference without embeddings now, not at the first compute
        self.__dict__["reference"] = reference


class KernelAudioDistance(_AgainstReference):
    """KAD to a frozen reference that kept its embeddings; the clips' embeddings are kept too."""

    def compute(self) -> Tensor:
        """KAD, a float64 scalar."""
        return torch.tensor(kad(self._all(), self.reference.embeddings), dtype=torch.float64)


class MauveAudioDivergence(_AgainstReference):
    """MAD to a frozen reference that kept its embeddings; the clips' embeddings are kept too."""

    def compute(self) -> Tensor:
        """MAD, a float64 scalar."""
        return torch.tensor(mad(self._all(), self.reference.embeddings), dtype=torch.float64)


class Diversity(_Gathered):
    """Mean pairwise cosine distance of the clips' embeddings."""

    def compute(self) -> Tensor:
        """Diversity, a float64 scalar."""
        return torch.tensor(diversity(self._all()), dtype=torch.float64)
