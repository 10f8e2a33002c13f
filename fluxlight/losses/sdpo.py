"""Diffusion-SDPO: DPO whose losers may not raise the error of the winners (arXiv 2511.03317; METHODS 1.7)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fluxlight.flow import Prediction
from fluxlight.losses.base import Logs, Sharpness
from fluxlight.losses.dpo import DPOLoss


def safe_share(winner: Prediction, loser: Prediction, mu: float) -> Tensor:
    """Share of each loser's gradient that leaves the winner's error falling to first order ``(B,)``, no gradient.

    min(1, (1 - mu) |g_w|^2 / <g_w, g_l>) where <g_w, g_l> > 0, else 1; g = velocity - target, sums over a sample.
    """
    with torch.no_grad():
        g_w, g_l = ((side.velocity.float() - side.target.float()).flatten(1) for side in (winner, loser))
        along = (g_w * g_l).sum(1)
        share = (1 - mu) * g_w.square().sum(1) / along.clamp_min(torch.finfo(along.dtype).tiny)
        return torch.where(along > 0, share.clamp_max(1), torch.ones_like(share))


class SDPOLoss(DPOLoss):
    """`DPOLoss` with the gradient of each loser multiplied by `safe_share`; the value is that of `DPOLoss`.

    Logs what `DPOLoss` logs, and ``kept``, the mean share.

    Args:
        beta: sharpness, or "auto": as in `DPOLoss`.
        mu: how much of the winner's own fall is kept for sure, 0 to 1 (published 0.9 with SD 1.5 and Diffusion-DPO).
    """

    def __init__(self, beta: Sharpness = 2000.0, mu: float = 0.9) -> None:
        super().__init__(beta)
        if not 0 <= mu <= 1:
            raise ValueError(f"mu is {mu}: it is a share, 0 to 1")
        self.mu = mu

    def __call__(
        self, winner: Prediction, loser: Prediction, reference_winner: Prediction, reference_loser: Prediction
    ) -> tuple[Tensor, Logs]:
        """Loss of B pairs and logs (see the base class)."""
        share = safe_share(winner, loser, self.mu)
        still, wide = loser.velocity.detach(), share.reshape(-1, *[1] * (loser.velocity.dim() - 1))
        held = replace(loser, velocity=still + wide * (loser.velocity - still))
        loss, logs = super().__call__(winner, held, reference_winner, reference_loser)
        return loss, {**logs, "kept": share.mean()}
