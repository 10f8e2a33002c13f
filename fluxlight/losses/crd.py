"""CRD (METHODS 1.6): the implicit reward of the policy is drawn to the given one, so the push fades by itself."""

from __future__ import annotations

from torch import Tensor

from fluxlight.flow import Prediction
from fluxlight.losses.base import Logs, PolicyLoss, distances

FLOOR = 1e-5
"""Least mean error that an adaptive weight divides by (as NFT's)."""


class CRDLoss(PolicyLoss):
    """(limit / beta) mean[(beta I - R)^2] + k_ref |v - v_r|^2, I and R centred over the batch.

    I = |v_o - u|^2 / w_o - |v - u|^2 / w is the implicit reward, R = A / (2 limit), within +-1/2, the given one. In
    the common gradient a = 2 limit (R - beta I) and 1 / w its weight. With ``adaptive`` w is the mean absolute error,
    without gradient (as shipped), else 1. Centring over the batch takes a batch of many prompts; several processes
    centre each its own.

    Logs ``implicit``, how I and R go together (their correlation), ``moved`` and ``drift`` (`distances`).

    Args:
        beta: scale of the implicit reward (shipped 1).
        limit: advantages are clipped to +- this (shipped 5).
        k_ref: weight of the distance to the reference (shipped 0.1, to a guided one).
        adaptive: divide errors by their mean absolute value.
    """

    def __init__(self, beta: float = 1.0, limit: float = 5.0, k_ref: float = 0.1, adaptive: bool = True) -> None:
        self.beta, self.limit, self.k_ref, self.adaptive = beta, limit, k_ref, adaptive

    def __call__(
        self, policy: Tensor, old: Tensor, reference: Tensor, target: Tensor, advantage: Tensor, t: Tensor
    ) -> tuple[Tensor, Logs]:
        """Loss of B clips and logs (see the base class)."""
        implicit = self._error(old, target) - self._error(policy, target)
        given = advantage.clamp(-self.limit, self.limit) / (2 * self.limit)
        implicit, given = implicit - implicit.mean(), given - given.mean()
        _, drift, logs = distances(policy, old, reference)
        with_it = (implicit * given).sum() / (implicit.norm() * given.norm()).clamp_min(1e-12)
        loss = self.limit / self.beta * (self.beta * implicit - given).square().mean() + self.k_ref * drift
        return loss, {**logs, "implicit": with_it.detach()}

    def _error(self, velocity: Tensor, target: Tensor) -> Tensor:
        error = Prediction(velocity, target).error
        if not self.adaptive:
            return error
        return error / (velocity - target).detach().float().abs().flatten(1).mean(1).clamp_min(FLOOR)
