"""Two velocities, of two checkpoints say, become one."""

from __future__ import annotations

from torch import Tensor

from fluxlight.types import Velocity


class Crossover:
    """One velocity for the noisy part of the way and another for the rest; swap the arguments for the reverse.

    Args:
        first: used for t > ``at`` (the beginning of sampling).
        second: used for t <= ``at``.
        at: time of the change.
    """

    def __init__(self, first: Velocity, second: Velocity, at: float = 0.5) -> None:
        self.first, self.second, self.at = first, second, at

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Velocity ``(B, L, D)`` of whichever is on."""
        return self.first(x, t) if t > self.at else self.second(x, t)


class Average:
    """Weighted mean of two velocities.

    Args:
        first: gets ``weight``.
        second: gets 1 - ``weight``.
        weight: share of the first.
    """

    def __init__(self, first: Velocity, second: Velocity, weight: float = 0.5) -> None:
        self.first, self.second, self.weight = first, second, weight

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Averaged velocity ``(B, L, D)``."""
        return self.weight * self.first(x, t) + (1 - self.weight) * self.second(x, t)
