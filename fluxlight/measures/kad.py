"""KAD: kernel audio distance of the clips' embeddings to a reference that kept its own."""

from __future__ import annotations

from typing import Any

from fluxlight.measures.base import Measure
from fluxlight.metrics.kad import KernelGram, kad
from fluxlight.metrics.reference import Reference
from fluxlight.metrics.resampling import Gram


class KAD(Measure):
    """The kernel's width is the median distance of the reference."""

    name, label, better, order, extra, needs = "kad", "KAD", "lower", 2, False, "embeddings"

    def __init__(self, n: int, reference: Reference | None = None) -> None:
        super().__init__(n, reference)
        self._width = self.reference.bandwidth()

    def gram(self, clips: Any) -> Gram:
        """See `Measure.gram`."""
        return KernelGram(clips, self.reference.embeddings, self._width)

    def floor(self, held_out: Any, rest: Any) -> float:
        """See `Measure.floor`."""
        return kad(held_out, rest, self._width)
