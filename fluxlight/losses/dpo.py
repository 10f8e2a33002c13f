"""Diffusion-DPO for flows (arXiv 2311.12908; METHODS 1.7)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fluxlight.flow import Prediction
from fluxlight.losses.base import Logs, PreferenceLoss, Sharpness, alive


def margin(
    winner: Prediction, loser: Prediction, reference_winner: Prediction, reference_loser: Prediction
) -> Tensor:
    """How much more the policy prefers each winner than the reference does, ``(B,)``.

    (L_w_ref - L_l_ref) - (L_w - L_l), of per-sample *mean* squared errors.
    """
    return (reference_winner.error - reference_loser.error) - (winner.error - loser.error)


def told(margins: Tensor) -> Logs:
    """``margin`` and ``accuracy``, the share of pairs with a positive one."""
    margins = margins.detach()
    return {"margin": margins.mean(), "accuracy": (margins > 0).float().mean()}


class DPOLoss(PreferenceLoss):
    """-log sigmoid((beta / 2) margin), mean over pairs: ln 2 where policy and reference agree.

    Logs ``preference``, ``margin``, ``accuracy``, ``weight`` and ``dead``.

    Args:
        beta: sharpness; 2000 (FACTS section 10) belongs to errors that are means over a sample. "auto": (beta / 2)
            margin is `LIVELY` at one spread of the reference (our choice).
    """

    def __init__(self, beta: Sharpness = 2000.0) -> None:
        self.beta = beta

    def __call__(
        self, winner: Prediction, loser: Prediction, reference_winner: Prediction, reference_loser: Prediction
    ) -> tuple[Tensor, Logs]:
        """Loss of B pairs and logs (see the base class)."""
        margins = margin(winner, loser, reference_winner, reference_loser)
        inside = 0.5 * self.sharpness(self.beta, 0.5) * margins
        loss = -functional.logsigmoid(inside).mean()
        return loss, {"preference": loss.detach(), **told(margins), **alive(torch.sigmoid(-inside))}
