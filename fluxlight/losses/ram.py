"""RAM (arXiv 2605.10759; METHODS 1.4): regression on the reference, moved by the advantage."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from fluxlight.flow import Prediction
from fluxlight.losses.base import Logs, PolicyLoss, distances, per_clip


class RAMLoss(PolicyLoss):
    """k |v - sg[v_r + strength A (u - v*)]|^2, v* the policy (published) or the old one.

    In the common gradient a = k strength A and k_ref = k. Its fixed point is the optimum of the reward under a
    Kullback-Leibler distance of 1/strength to the reference; no old policy is needed.

    Logs ``moved`` and ``drift`` (`distances`).

    Args:
        strength: of an advantage against the anchor (100 in the public implementation).
        k: weight of it all, where other terms stand beside it (published 1).
        residual: whose error is pushed: that of the "policy", or of the "old" one.
    """

    def __init__(self, strength: float = 100.0, k: float = 1.0, residual: Literal["policy", "old"] = "policy") -> None:
        if residual not in ("policy", "old"):
            raise ValueError(f"residual is {residual!r}: use policy or old")
        self.strength, self.k, self.residual = strength, k, residual

    def __call__(
        self, policy: Tensor, old: Tensor, reference: Tensor, target: Tensor, advantage: Tensor, t: Tensor
    ) -> tuple[Tensor, Logs]:
        """Loss of B clips and logs (see the base class)."""
        start = policy.detach() if self.residual == "policy" else old
        goal = reference + per_clip(self.strength * advantage, old) * (target - start)
        return self.k * Prediction(policy, goal).error.mean(), distances(policy, old, reference)[2]
