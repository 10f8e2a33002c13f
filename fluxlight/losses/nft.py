"""NFT in velocity space (arXiv 2509.16117; METHODS 1.1): regression on the old policy, moved by the advantage."""

from __future__ import annotations

from torch import Tensor

from fluxlight.flow import Prediction
from fluxlight.losses.base import Logs, PolicyLoss, distances, per_clip


class NFTLoss(PolicyLoss):
    """limit beta |v - (v_o + A / (limit beta) (u - v_o))|^2 + k_ref |v - v_r|^2, means over elements and clips.

    Its gradient in v is (2 / N) [A (v_o - u) + limit beta (v - v_o) + k_ref (v - v_r)]: METHODS 1.1 (G). The shipped
    NFT works on x1 with an adaptive weight (METHODS 1.2); this is its unweighted form.

    Logs ``moved`` and ``drift`` (`distances`).

    Args:
        beta: how far an advantage moves the target: the smaller, the further (published 1.0, or 0.1).
        limit: advantages are clipped to +- this (published 5).
        k_ref: weight of the distance to the reference (published 1e-4).
    """

    def __init__(self, beta: float = 1.0, limit: float = 5.0, k_ref: float = 1e-4) -> None:
        self.beta, self.limit, self.k_ref = beta, limit, k_ref

    def __call__(
        self, policy: Tensor, old: Tensor, reference: Tensor, target: Tensor, advantage: Tensor, t: Tensor
    ) -> tuple[Tensor, Logs]:
        """Loss of B clips and logs (see the base class)."""
        weight = self.limit * self.beta
        share = advantage.clamp(-self.limit, self.limit) / weight
        goal = old + per_clip(share, old) * (target - old)
        _, drift, logs = distances(policy, old, reference)
        return weight * Prediction(policy, goal).error.mean() + self.k_ref * drift, logs
