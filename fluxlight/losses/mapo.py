"""MaPO: preference by odds of the errors themselves, without a reference (arXiv 2406.06424; METHODS 1.7)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fluxlight.flow import Prediction
from fluxlight.losses.base import LIVELY, Logs, PreferenceLoss, Sharpness, alive
from fluxlight.losses.dpo import margin


def odds(error: Tensor) -> Tensor:
    """Odds x / (e^x - 1) of errors x, any shape: 1 for none, falling by 1/2 per unit there."""
    error = error.clamp_min(torch.finfo(error.dtype).eps)
    return error / torch.expm1(error)


class MaPOLoss(PreferenceLoss):
    """L_w - b log sigmoid(sharpness (odds(scale L_w) - odds(scale L_l))), mean over pairs.

    The reference has no part in it; the stage keeps one all the same, for what it logs.

    Logs ``preference``, ``margin`` (against the reference), ``accuracy``, here the share of pairs whose winner has the
    smaller error, ``weight`` and ``dead``.

    Args:
        b: weight of the preference beside the winner's flow-matching loss (published 0.1).
        sharpness: of the sigmoid (published 1000), or "auto": 1 at one spread of the reference (our choice).
        scale: of an error before its odds (published 0.5).
    """

    def __init__(self, b: float = 0.1, sharpness: Sharpness = 1000.0, scale: float = 0.5) -> None:
        self.b, self.sharp, self.scale = b, sharpness, scale

    def __call__(
        self, winner: Prediction, loser: Prediction, reference_winner: Prediction, reference_loser: Prediction
    ) -> tuple[Tensor, Logs]:
        """Loss of B pairs and logs (see the base class)."""
        good, bad = winner.error, loser.error
        # without a reference the errors themselves are compared, whose spread is 1 from the start
        sharpness = self.sharpness(self.sharp, 0.5 * self.scale * LIVELY)
        inside = sharpness * (odds(self.scale * good) - odds(self.scale * bad))
        preference = -functional.logsigmoid(inside).mean()
        said = {
            "preference": preference.detach(),
            "margin": margin(winner, loser, reference_winner, reference_loser).detach().mean(),
            "accuracy": (good < bad).float().mean(),
        }
        return good.mean() + self.b * preference, {**said, **alive(torch.sigmoid(-inside))}
