"""The flow: path, target, per-sample loss and time sampling (FACTS section 7). Pure functions.

Direction, stated here once: **t = 1 is noise, t = 0 is data.** x1 is data (normalised latents), x0 is noise,
x_t = (1 - t) x1 + t x0, and the velocity to be learned is dx/dt = x0 - x1. Sampling integrates from t = 1 to 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """What a model says of B noised clips, beside what it should say.

    Attributes:
        velocity: predicted velocity ``(B, L, D)``.
        target: velocity of the path ``(B, L, D)``.
    """

    velocity: Tensor
    target: Tensor

    @property
    def error(self) -> Tensor:
        """Mean squared error of each clip ``(B,)``, fp32."""
        return per_sample_loss(self.velocity, self.target)


def interpolate(x1: Tensor, x0: Tensor, t: Tensor) -> Tensor:
    """Point x_t of the path between data ``x1`` and noise ``x0``, all ``(B, L, D)``, at times ``t`` ``(B,)``."""
    t = t.reshape(-1, *[1] * (x1.dim() - 1)).to(x1.dtype)
    return (1 - t) * x1 + t * x0


def target(x1: Tensor, x0: Tensor) -> Tensor:
    """Velocity of the path, x0 - x1 ``(B, L, D)``: the same at every time."""
    return x0 - x1


def per_sample_loss(velocity: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over all elements of each sample, in fp32: two ``(B, L, D)`` -> ``(B,)``."""
    return (velocity.float() - target.float()).square().flatten(1).mean(1)


def time_of_normal(z: Tensor) -> Tensor:
    """Logistic-normal time sigmoid(z) of standard normals ``z``, any shape."""
    return torch.sigmoid(z)


def sample_time(n: int, generator: torch.Generator) -> Tensor:
    """``n`` training times ``(n,)`` in (0, 1), sigmoid(N(0, 1)), from ``generator`` and on its device."""
    return time_of_normal(torch.randn(n, generator=generator, device=generator.device))
