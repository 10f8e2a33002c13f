"""MAD: MAUVE audio divergence of the clips' embeddings from a reference that kept its own."""

from __future__ import annotations

from typing import Any

from fluxlight.measures.base import Measure
from fluxlight.metrics.mad import MauveGram, mad
from fluxlight.metrics.reference import Reference
from fluxlight.metrics.resampling import Gram


class MAD(Measure):
    """The same number of cells for one system, for two stacked ones and for the floor."""

    name, label, better, order, needs = "mad", "MAD", "lower", 3, "embeddings"
    note = (
        "MAD: -ln MAUVE over k-means cells. Its jackknife interval holds the cells fixed; two rows that are "
        "compared share cells, so their difference is not that of the two values."
    )

    def __init__(self, n: int, reference: Reference | None = None) -> None:
        super().__init__(n, reference)
        self._cells = max(2, min(n, self.reference.clips) // 10)

    def gram(self, clips: Any) -> Gram:
        """See `Measure.gram`."""
        return MauveGram(clips, self.reference.embeddings, self._cells)

    def floor(self, held_out: Any, rest: Any) -> float:
        """See `Measure.floor`."""
        return mad(held_out, rest, self._cells)
