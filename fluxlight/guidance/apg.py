"""APG: adaptive projected guidance, which drops what guidance only makes louder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fluxlight.guidance.base import Branch, Guidance, weighted_sum


class APG(Guidance):
    """Guidance by the part of the difference that is orthogonal to the conditional prediction of the data.

    With x1 = x - t v: d = x1_c - x1_n (plus momentum times the d of the step before), limited to ``radius``, split
    along x1_c into d_par and d_orth; x1 = x1_c + (w - 1) (d_orth + eta d_par). The paper's form (Sadat et al. 2024,
    2410.02416), on the data prediction (METHODS 1.10); with eta 1, no momentum and no radius it is `Joint`.

    Args:
        eta: share of the parallel part that stays; 0 in the paper.
        momentum: of the difference; the paper uses a negative one, 0 is none (our default).
        radius: largest root mean square of the difference, in normalised latents; None is no limit (our default:
            published radii are of images).
    """

    def __init__(self, eta: float = 0.0, momentum: float = 0.0, radius: float | None = None) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta is {eta}: use 0 (no parallel part) to 1 (all of it)")
        if not -1 < momentum < 1:
            raise ValueError(f"momentum is {momentum}: use a number between -1 and 1")
        if radius is not None and not radius > 0:
            raise ValueError(f"radius is {radius}: use a positive number, or null for no limit")
        self.eta, self.momentum, self.radius = eta, momentum, radius

    def combine(
        self,
        velocities: Mapping[Branch, Tensor],
        factors: Mapping[Branch, float],
        x: Tensor,
        t: float,
        memory: dict[str, Any],
    ) -> Tensor:
        """The guided velocity ``(B, L, D)``; at t = 0 (only Heun asks there) the plain sum."""
        if t <= 0:
            return weighted_sum(velocities, factors)
        dims = (1, 2)
        data = x - t * velocities["conditional"]
        step = t * (velocities["negative"] - velocities["conditional"])
        if self.momentum:
            step = step + self.momentum * memory.get("step", 0.0)
            memory["step"] = step
        if self.radius is not None:
            size = step.square().mean(dims, keepdim=True).sqrt()
            step = step * (self.radius / size.clamp_min(1e-8)).clamp_max(1.0)
        along = (step * data).sum(dims, keepdim=True) / data.square().sum(dims, keepdim=True).clamp_min(1e-8) * data
        change = (step - along) + self.eta * along
        return velocities["conditional"] - (factors["conditional"] - 1) * change / t
