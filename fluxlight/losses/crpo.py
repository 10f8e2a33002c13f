"""CRPO: DPO that goes on learning the winner (FACTS section 10, arXiv 2412.21037)."""

from __future__ import annotations

from torch import Tensor

from fluxlight.flow import Prediction
from fluxlight.losses.base import Logs, Sharpness
from fluxlight.losses.dpo import DPOLoss


class CRPOLoss(DPOLoss):
    """`DPOLoss` + lambda_fm x mean error of the winners: ln 2 + lambda_fm L_w where policy and reference agree.

    Args:
        beta: sharpness (published 2000), or "auto" (see `DPOLoss`).
        lambda_fm: weight of the winner's flow-matching loss (published 1.0).
    """

    def __init__(self, beta: Sharpness = 2000.0, lambda_fm: float = 1.0) -> None:
        super().__init__(beta)
        self.lambda_fm = lambda_fm

    def __call__(
        self, winner: Prediction, loser: Prediction, reference_winner: Prediction, reference_loser: Prediction
    ) -> tuple[Tensor, Logs]:
        """Loss of B pairs and logs (see the base class)."""
        preference, logs = super().__call__(winner, loser, reference_winner, reference_loser)
        return preference + self.lambda_fm * winner.error.mean(), logs
