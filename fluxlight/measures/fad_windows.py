"""FAD in fadtk's definition: windows of 10 s every second, pooled over all clips."""

from __future__ import annotations

from typing import Any

from fluxlight.measures.base import Measure
from fluxlight.metrics.reference import Reference
from fluxlight.metrics.resampling import Gram
from fluxlight.metrics.windows import WindowGram


class WindowedFAD(Measure):
    """On another scale than `FAD`: more rows, and rows of one clip are alike."""

    name, label, better, order, takes, needs = "fad_windows", "FAD 10s/1s", "lower", 1, "windows", "statistics"

    def gram(self, clips: Any) -> Gram:
        """See `Measure.gram`."""
        return WindowGram(clips, self.reference.mean, self.reference.cov)

    def floor(self, held_out: Any, rest: Any) -> float:
        """See `Measure.floor`."""
        other = Reference.from_windows(rest, "", 0)
        return WindowGram(held_out, other.mean, other.cov).distance()
