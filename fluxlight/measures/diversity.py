"""Diversity: how far apart a system's clips lie; it falls when a model collapses."""

from __future__ import annotations

from typing import Any

from fluxlight.measures.base import Measure
from fluxlight.metrics.diversity import DiversityGram, diversity
from fluxlight.metrics.resampling import Gram


class ClipDiversity(Measure):
    """Mean pairwise cosine distance."""

    name, label, better, order = "diversity", "diversity", "neither", 20
    note = "diversity: mean pairwise cosine distance of a row's clips; read it against real clips."

    def gram(self, clips: Any) -> Gram:
        """See `Measure.gram`."""
        return DiversityGram(clips)

    def floor(self, held_out: Any, rest: Any) -> float:
        """See `Measure.floor`: that of real clips."""
        return diversity(held_out)
