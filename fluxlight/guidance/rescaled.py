"""Rescaled: guidance that does not widen what it predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fluxlight.guidance.base import Branch, weighted_sum
from fluxlight.guidance.separate import Separate


class Rescaled(Separate):
    """The guided prediction of the data is brought back to the spread of the conditional one (METHODS 1.10).

    With x1 = x - t v the data that a velocity v predicts, x1_g the guided and x1_c the conditional one,
    x1 = x1_g (1 + strength (sd(x1_c) / sd(x1_g) - 1)), sd over one clip's frames and channels. It is Lin et al. 2024
    (2305.08891, section 3.4) on the flow's prediction of the data.

    Args:
        strength: 0 is no rescaling, 1 all of it.
    """

    def __init__(self, strength: float = 1.0) -> None:
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}: use 0 (none) to 1 (all)")
        self.strength = strength

    def combine(
        self,
        velocities: Mapping[Branch, Tensor],
        factors: Mapping[Branch, float],
        x: Tensor,
        t: float,
        memory: dict[str, Any],
    ) -> Tensor:
        """The rescaled velocity ``(B, L, D)``; at t = 0, where x is the prediction, the guided one as it is."""
        guided = weighted_sum(velocities, factors)
        if t <= 0 or "conditional" not in velocities:
            return guided
        plain, wide = x - t * velocities["conditional"], x - t * guided
        ratio = plain.std(dim=(1, 2), keepdim=True) / wide.std(dim=(1, 2), keepdim=True).clamp_min(1e-8)
        return (x - wide * torch.lerp(torch.ones_like(ratio), ratio, self.strength)) / t
