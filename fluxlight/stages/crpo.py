"""CRPO: preference training of a flow model on winner and loser of one prompt (FACTS section 10, arXiv 2412.21037)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from fluxlight.model import FluxModel
from fluxlight.stages.base import Stage
from fluxlight.types import PairBatch


@dataclass
class CRPOTerms:
    """The loss of a batch of pairs and what it is made of.

    Attributes:
        loss: preference + lambda_fm * winner error, a scalar.
        preference: mean of -log sigmoid(inside), a scalar.
        inside: -(beta / 2) [(L_w - L_l) - (L_w_ref - L_l_ref)] of each pair ``(B,)``.
        margin: how much more the policy prefers the winner than the reference does, ``(B,)``: inside / (beta / 2).
        accuracy: share of pairs with a positive ``inside``, a scalar.
    """

    loss: Tensor
    preference: Tensor
    inside: Tensor
    margin: Tensor
    accuracy: Tensor


def crpo_loss(
    winner: Tensor,
    loser: Tensor,
    reference_winner: Tensor,
    reference_loser: Tensor,
    beta: float = 2000.0,
    lambda_fm: float = 1.0,
) -> CRPOTerms:
    """L = -log sigmoid(-(beta/2) [(L_w - L_l) - (L_w_ref - L_l_ref)]) + lambda_FM L_w, mean over pairs.

    Args:
        winner, loser: per-sample *mean* squared errors of the policy ``(B,)``; beta 2000 belongs to the mean.
        reference_winner, reference_loser: the same of the frozen reference ``(B,)``.
        beta: sharpness of the preference.
        lambda_fm: weight of the winner's flow-matching loss.
    """
    margin = (reference_winner - reference_loser) - (winner - loser)
    inside = 0.5 * beta * margin
    preference = -functional.logsigmoid(inside).mean()
    return CRPOTerms(preference + lambda_fm * winner.mean(), preference, inside, margin, (inside > 0).float().mean())


class CRPO(Stage):
    """Preference training against a frozen copy of the starting weights. Settings below; the others are `Stage`'s.

    Winner and loser share noise, time and coins, and so do policy and reference.

    Logs ``train/loss``, ``train/preference`` (ln 2 at the start), ``train/error`` = (L_w + L_l) / 2,
    ``train/error_reference``, ``train/error_winner``, ``train/error_loser``, ``train/accuracy`` (implicit),
    ``train/margin``, ``train/lr``.

    Args:
        beta: sharpness of the preference (published 2000).
        lambda_fm: weight of the winner's flow-matching loss (published 1.0).
        pair_score: score that conditions both clips of a pair: the "winner"'s reward, or "own", each its own.
            Upstream's is not public; one condition for both is our choice, as a preference compares
            under equal conditions.
        **settings: of `Stage`.
    """

    def __init__(
        self,
        beta: float = 2000.0,
        lambda_fm: float = 1.0,
        pair_score: Literal["winner", "own"] = "winner",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.beta, self.lambda_fm, self.pair_score = beta, lambda_fm, pair_score
        self._reference: tuple[FluxModel, ...] = ()

    def setup(self, stage: str) -> None:
        """Freeze the reference: here the weights are still the starting ones, a checkpoint is loaded later."""
        super().setup(stage)
        if stage == "fit":
            # in a tuple, so that it is no submodule: neither trained, nor moved, nor saved with the policy
            self._reference = (copy.deepcopy(self.model).requires_grad_(False).eval(),)

    def on_fit_start(self) -> None:
        """Bring the reference to the policy's device."""
        self._reference[0].to(self.device)

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """CRPO loss of a batch of pairs."""
        draws = self.draws(batch.winner.mean.shape, batch_idx)
        loser = batch.loser if self.pair_score == "own" else replace(batch.loser, score=batch.winner.score)
        policy = [self.sample_losses(clip, draws) for clip in (batch.winner, loser)]
        with torch.no_grad():
            frozen = [self.sample_losses(clip, draws, self._reference[0]) for clip in (batch.winner, loser)]
        terms = crpo_loss(policy[0], policy[1], frozen[0], frozen[1], self.beta, self.lambda_fm)
        return self.report(
            terms.loss, len(policy[0]), preference=terms.preference.detach(),
            error=0.5 * (policy[0] + policy[1]).detach().mean(), error_reference=0.5 * (frozen[0] + frozen[1]).mean(),
            error_winner=policy[0].detach().mean(), error_loser=policy[1].detach().mean(),
            accuracy=terms.accuracy, margin=terms.margin.detach().mean(),
        )  # fmt: skip
