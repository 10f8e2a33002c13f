"""Preference: training on winner and loser of one prompt against a frozen copy of the starting weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from fluxlight.losses.base import PreferenceLoss
from fluxlight.losses.crpo import CRPOLoss
from fluxlight.stages.anchored import Anchored
from fluxlight.types import PairBatch


class Preference(Anchored):
    """Any preference loss on pairs. Settings below; the others are `Stage`'s.

    Winner and loser share noise, time and coins, and so do policy and reference.

    Logs ``train/loss``, ``train/error`` = (L_w + L_l) / 2, ``train/error_reference``, ``train/error_winner``,
    ``train/error_loser``, ``train/lr`` and what the loss logs: ``train/preference`` (ln 2 at the start),
    ``train/margin``, ``train/accuracy`` (implicit).

    Args:
        loss: over the predictions of policy and reference (`fluxlight.losses`).
        pair_score: score that conditions both clips of a pair: the "winner"'s reward, or "own", each its own.
            Upstream's is not public; one condition for both is our choice, as a preference compares
            under equal conditions.
        **settings: of `Stage`.
    """

    def __init__(
        self, loss: PreferenceLoss = CRPOLoss(), pair_score: Literal["winner", "own"] = "winner", **settings: Any  # noqa: B008
    ) -> None:
        super().__init__(**settings)
        self.loss, self.pair_score = loss, pair_score

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Preference loss of a batch of pairs."""
        draws = self.draws(batch.winner.mean.shape, batch_idx)
        loser = batch.loser if self.pair_score == "own" else replace(batch.loser, score=batch.winner.score)
        policy = [self.predict(clip, draws) for clip in (batch.winner, loser)]
        with torch.no_grad():
            frozen = [self.predict(clip, draws, self.reference.model) for clip in (batch.winner, loser)]
        loss, logs = self.loss(*policy, *frozen)
        winner, other = (said.error.detach() for said in policy)
        return self.report(
            loss, len(winner), **logs, error=0.5 * (winner + other).mean(),
            error_reference=0.5 * (frozen[0].error + frozen[1].error).mean(),
            error_winner=winner.mean(), error_loser=other.mean(),
        )  # fmt: skip


class CRPO(Preference):
    """`Preference` with the published loss (FACTS section 10, arXiv 2412.21037). Other settings: see there.

    Args:
        beta: sharpness of the preference (published 2000).
        lambda_fm: weight of the winner's flow-matching loss (published 1.0).
        pair_score: see `Preference`.
        **settings: of `Stage`.
    """

    def __init__(
        self,
        beta: float = 2000.0,
        lambda_fm: float = 1.0,
        pair_score: Literal["winner", "own"] = "winner",
        **settings: Any,
    ) -> None:
        super().__init__(CRPOLoss(beta, lambda_fm), pair_score, **settings)
