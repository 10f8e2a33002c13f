"""CFGZeroStar: CFG-Zero*, the negative velocity scaled to the conditional one, and no step at the very noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fluxlight.guidance.base import Branch, Guidance


class CFGZeroStar(Guidance):
    """s v_n + w (v_c - s v_n) with s = <v_c, v_n> / |v_n|^2 of each clip, and v = 0 in the first steps.

    The paper's form (Fan et al. 2025, 2503.18886); the file in diffusers takes the difference before it scales
    (METHODS 1.10), which is not what is done here.

    Args:
        zero: share of the time, from the noise on, in which the velocity is 0: 0.04 is the first of 25 steps.
    """

    def __init__(self, zero: float = 0.04) -> None:
        if not 0 <= zero < 1:
            raise ValueError(f"zero is {zero}: it is a share of the time, 0 to below 1")
        self.zero = zero

    def is_silent(self, t: float) -> bool:
        """Whether ``t`` is among the first steps; a step that begins where the share ends is not."""
        return t > 1 - self.zero + 1e-6

    def combine(
        self,
        velocities: Mapping[Branch, Tensor],
        factors: Mapping[Branch, float],
        x: Tensor,
        t: float,
        memory: dict[str, Any],
    ) -> Tensor:
        """The guided velocity ``(B, L, D)``."""
        real, other = velocities["conditional"], velocities["negative"]
        dims = (1, 2)
        scale = (real * other).sum(dims, keepdim=True) / (other.square().sum(dims, keepdim=True) + 1e-8)
        return scale * other + factors["conditional"] * (real - scale * other)
