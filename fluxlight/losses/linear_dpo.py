"""Linear-DPO: a weight that falls in a straight line and never to nothing (arXiv 2605.21123, METHODS 1.7)."""

from __future__ import annotations

from torch import Tensor

from fluxlight.flow import Prediction
from fluxlight.losses.base import Logs, PreferenceLoss, Sharpness, alive
from fluxlight.losses.dpo import margin, told


class LinearDPOLoss(PreferenceLoss):
    """-(beta / 2) w margin, mean over pairs, with w = clip(1/2 - (beta / 2) margin / 4, floor, 1 - floor), no gradient.

    Its gradient is that of `DPOLoss` with the sigmoid replaced by its tangent at 0, clipped (the paper clips a linear
    utility so; the slope is ours, its text was not at hand). At ``floor`` 1/2 it is the plain linear loss of METHODS.
    As the weight never vanishes, nothing but the reference holds the policy: let it follow the policy
    (``reference_decay`` of `Preference`), train briefly, or keep a ``lambda_winner``.

    Logs ``preference``, ``margin``, ``accuracy``, ``weight`` and ``dead``.

    Args:
        beta: sharpness, or "auto": as in `DPOLoss`.
        floor: smallest weight of a pair, 0 to 1/2 (our choice).
        lambda_winner: weight of the winner's flow-matching loss; a name of its own, see `KTOLoss`.
    """

    def __init__(self, beta: Sharpness = 2000.0, floor: float = 0.1, lambda_winner: float = 0.0) -> None:
        if not 0 <= floor <= 0.5:
            raise ValueError(f"floor is {floor}: it is a weight, 0 to 0.5")
        self.beta, self.floor, self.lambda_winner = beta, floor, lambda_winner

    def __call__(
        self, winner: Prediction, loser: Prediction, reference_winner: Prediction, reference_loser: Prediction
    ) -> tuple[Tensor, Logs]:
        """Loss of B pairs and logs (see the base class)."""
        margins = margin(winner, loser, reference_winner, reference_loser)
        inside = 0.5 * self.sharpness(self.beta, 0.5) * margins
        weight = (0.5 - inside.detach() / 4).clamp(self.floor, 1 - self.floor)
        preference = -(weight * inside).mean()
        loss = preference + self.lambda_winner * winner.error.mean()
        return loss, {"preference": preference.detach(), **told(margins), **alive(weight)}
