"""OfflinePolicy: a policy loss on pairs that are there, the winner with advantage 1, the loser with -1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fluxlight.losses.base import PolicyLoss
from fluxlight.losses.nft import NFTLoss
from fluxlight.stages.anchored import Anchored
from fluxlight.types import PairBatch


class OfflinePolicy(Anchored):
    """A policy loss on preference pairs (upstream has an offline NFT with such advantages, FACTS section 3).

    Old policy and reference are the starting weights. Each clip keeps its own score; both of a pair share noise, time
    and coins.

    Logs ``train/loss``, ``train/error_winner``, ``train/error_loser``, what the loss logs, ``train/lr``.

    Args:
        loss: over single clips with an advantage (`fluxlight.losses`).
        t_min: times are drawn in [t_min, 1]: near the data a point knows its clip, nothing averages, and a negative
            advantage pushes without bound (METHODS 1.1).
        **settings: of `Stage`.
    """

    def __init__(self, loss: PolicyLoss = NFTLoss(), t_min: float = 0.1, **settings: Any) -> None:  # noqa: B008
        super().__init__(**settings)
        if not 0 <= t_min < 1:
            raise ValueError(f"t_min is {t_min}: it is a time, 0 (data) up to below 1 (noise)")
        self.loss, self.t_min = loss, t_min

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Policy loss of both clips of each pair."""
        drawn = self.draws(batch.winner.mean.shape, batch_idx)
        draws = replace(drawn, t=self.t_min + (1 - self.t_min) * drawn.t)
        losses, logs, errors = [], [], {}
        for clip, advantage, name in ((batch.winner, 1.0, "winner"), (batch.loser, -1.0, "loser")):
            policy = self.predict(clip, draws)
            with torch.no_grad():
                start = self.predict(clip, draws, self.reference.model).velocity
            sign = torch.full_like(draws.t, advantage)
            part, said = self.loss(policy.velocity, start, start, policy.target, sign, draws.t)
            errors[f"error_{name}"] = policy.error.detach().mean()
            losses.append(part)
            logs.append(said)
        means = {name: 0.5 * (logs[0][name] + logs[1][name]) for name in logs[0]}
        return self.report(0.5 * (losses[0] + losses[1]), len(draws.t), **errors, **means)
