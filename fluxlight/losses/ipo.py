"""IPO: a margin to be reached and not to be passed (arXiv 2310.12036; METHODS 1.7)."""

from __future__ import annotations

from torch import Tensor

from fluxlight.flow import Prediction
from fluxlight.losses.base import Logs, PreferenceLoss, Sharpness, alive
from fluxlight.losses.dpo import margin, told


class IPOLoss(PreferenceLoss):
    """tau^2 (margin - 1 / (2 tau))^2, mean over pairs: 1/4 where policy and reference agree.

    The factor tau^2 is ours: it keeps the gradient at the size of DPO's, far above AdamW's epsilon.

    Logs ``preference``, ``margin``, ``accuracy``, and ``weight`` = 1/2 - tau margin, below 0 past the target, ``dead``
    where it is reached.

    Args:
        tau: 1 / (2 tau) is the margin that is asked for; 1000 stands where DPO has beta / 2 (our choice). "auto": tau
            is `LIVELY` at one spread of the reference, so a twentieth of a spread is asked for (our choice).
    """

    def __init__(self, tau: Sharpness = 1000.0) -> None:
        self.tau = tau

    def __call__(
        self, winner: Prediction, loser: Prediction, reference_winner: Prediction, reference_loser: Prediction
    ) -> tuple[Tensor, Logs]:
        """Loss of B pairs and logs (see the base class)."""
        margins = margin(winner, loser, reference_winner, reference_loser)
        lacking = 0.5 - self.sharpness(self.tau) * margins
        loss = lacking.square().mean()
        return loss, {"preference": loss.detach(), **told(margins), **alive(lacking)}
