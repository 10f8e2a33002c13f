"""KTO: good and bad clips, each judged for itself, without pairs (arXiv 2402.01306, 2404.04465; METHODS 1.7)."""

from __future__ import annotations

import torch
from torch import Tensor

from fluxlight.flow import Prediction
from fluxlight.losses.base import Logs, PreferenceLoss, Sharpness, alive, mean_of_all
from fluxlight.losses.dpo import margin, told


class KTOLoss(PreferenceLoss):
    """Mean of 1 - sigmoid(z - z0) over good clips and of 1 - sigmoid(z0 - z) over bad ones; z = sharpness (L_ref - L).

    z0 is the mean of z over all clips of the batch, in all processes, without gradient and at least 0. Winners are the
    good clips, losers the bad ones; they need not be of one caption (`fluxlight select pairs --by votes`).

    Logs ``preference``, ``margin``, ``accuracy`` (good clips above z0 and bad ones below it), ``weight`` (twice the
    slope of the sigmoid: 1/2 at the start) and ``dead``.

    Args:
        sharpness: the method's beta (1 in an implementation at hand), or "auto": set by the spread of the reference.
            It has a name of its own, as a command line that names another loss keeps settings of equal names.
    """

    paired = False

    def __init__(self, sharpness: Sharpness = 1.0) -> None:
        self.sharp = sharpness

    def __call__(
        self, winner: Prediction, loser: Prediction, reference_winner: Prediction, reference_loser: Prediction
    ) -> tuple[Tensor, Logs]:
        """Loss of B good and B bad clips and logs (see the base class)."""
        beta = self.sharpness(self.sharp)
        good, bad = (
            beta * (reference.error - policy.error)
            for policy, reference in ((winner, reference_winner), (loser, reference_loser))
        )
        origin = mean_of_all(torch.cat([good, bad])).clamp_min(0)
        value = torch.sigmoid(torch.cat([good - origin, origin - bad]))
        loss = (1 - value).mean()
        right = torch.cat([good > origin, bad < origin]).float().mean()
        said = told(margin(winner, loser, reference_winner, reference_loser)) | {"accuracy": right}
        return loss, {"preference": loss.detach(), **said, **alive(2 * value * (1 - value))}
