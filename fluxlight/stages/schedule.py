"""Learning-rate schedule of the published recipes: linear warm-up, then steps down, counted from the end of warm-up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Warm-up and step decay (FACTS section 3).

    Attributes:
        warmup: updates of linear warm-up; 0 starts at the full rate.
        decay_at: shares of the updates after warm-up at which the rate falls; empty keeps it constant.
        decay: factor of each fall.
    """

    warmup: int = 1_000
    decay_at: tuple[float, ...] = (0.8, 0.9)
    decay: float = 0.1

    def factor(self, update: int, total: int) -> float:
        """Factor of the learning rate at ``update`` (0 is the first) of ``total``."""
        if update < self.warmup:
            return (update + 1) / (self.warmup + 1)
        share = (update - self.warmup) / max(1, total - self.warmup)
        return self.decay ** sum(share >= at for at in self.decay_at)
