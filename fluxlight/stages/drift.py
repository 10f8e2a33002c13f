"""Drift: how far a policy has moved from a reference, on draws that never change."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fluxlight.data.store import LatentStore
from fluxlight.flow import per_sample_loss
from fluxlight.random import permutation, words
from fluxlight.stages.draws import draw


class Drift:
    """Mean of |v - v_r|^2 over fixed clips, noise and times: the distance of over-optimisation curves (METHODS 2.5).

    The KL of two flow models with equal paths is an integral of this with a weight of time; common random numbers make
    a difference of two looks exact.

    Args:
        store: whose clips are drawn.
        n: clips, each at one time of training's law.
        seed: of the draw.
    """

    def __init__(self, store: LatentStore, n: int, seed: int) -> None:
        self.batch = store.batch(permutation(len(store), seed, *words("drift"))[:n])
        self.draws = draw(self.batch.mean.shape, (seed, *words("drift")))

    @torch.no_grad()
    def velocities(self, stage: Any) -> Tensor:
        """Velocities ``(n, L, D)`` of a stage's model as it is now, on the CPU."""
        batch = stage.transfer_batch_to_device(self.batch, stage.device, 0)
        return stage.predict(batch, self.draws.to(stage.device)).velocity.float().cpu()

    @staticmethod
    def distance(velocities: Tensor, reference: Tensor) -> float:
        """Mean of (v - v_r)^2 over clips and elements ``(n, L, D)``, in squared standard deviations of the data."""
        return float(per_sample_loss(velocities, reference).mean())
