"""Draws: the random numbers of one training batch, a function of a key alone and the same in one process or many."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fluxlight import flow
from fluxlight.random import generator


@dataclass
class Draws:
    """Random numbers of one training batch.

    Attributes:
        noise: x0 ``(B, L, D)``.
        posterior: standard normals for the latent posterior ``(B, L, D)``.
        t: flow times ``(B,)``.
        text_coin, score_coin: uniform in [0, 1) ``(B,)``; below the drop probability means dropped.
    """

    noise: Tensor
    posterior: Tensor
    t: Tensor
    text_coin: Tensor
    score_coin: Tensor

    def to(self, device: torch.device) -> Draws:
        """The same numbers there."""
        return Draws(**{name: value.to(device) for name, value in vars(self).items()})


def draw(shape: torch.Size, key: tuple[int, ...], rank: int = 0, world: int = 1) -> Draws:
    """Draws of our rows, on the CPU.

    Every process draws for the global batch and keeps the part of its rows: the rows of process r stand behind those of
    r - 1, as in the stream, so two processes of four clips draw what one of eight does.

    Args:
        shape: of our latents ``(B, L, D)``; all processes have the same.
        key: of the global batch.
        rank, world: our process, and how many there are.
    """
    source, n = generator(*key), shape[0]
    whole = (n * world, *shape[1:])
    draws = Draws(
        noise=torch.randn(whole, generator=source),
        posterior=torch.randn(whole, generator=source),
        t=flow.sample_time(n * world, source),
        text_coin=torch.rand(n * world, generator=source),
        score_coin=torch.rand(n * world, generator=source),
    )
    mine = slice(rank * n, (rank + 1) * n)
    return Draws(**{name: value[mine] for name, value in vars(draws).items()})
