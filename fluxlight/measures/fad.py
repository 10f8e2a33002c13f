"""FAD: Frechet audio distance of the clips' embeddings to a reference."""

from __future__ import annotations

from typing import Any

from fluxlight.measures.base import Measure
from fluxlight.metrics.frechet import FrechetGram, fad
from fluxlight.metrics.resampling import Gram


class FAD(Measure):
    """One embedding a clip (FACTS section 9)."""

    name, label, better, order, extra, needs = "fad", "FAD", "lower", 0, False, "statistics"

    def gram(self, clips: Any) -> Gram:
        """See `Measure.gram`."""
        return FrechetGram(clips, self.reference.mean, self.reference.cov)

    def floor(self, held_out: Any, rest: Any) -> float:
        """See `Measure.floor`."""
        return fad(held_out, rest)
