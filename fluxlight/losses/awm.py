"""AWM (advantage-weighted matching) on policy (METHODS 1.3): the clip's own flow matching, weighed by its advantage."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fluxlight.flow import Prediction
from fluxlight.losses.base import Logs, PolicyLoss, distances

POWER, FLOOR = 0.25, 1e-10
"""Exponent of "ghuber" and what keeps it finite at error 0 (as shipped)."""


class AWMLoss(PolicyLoss):
    """mean[a m(|v - u|^2, t)] + k_old |v - v_o|^2 + k_ref |v - v_r|^2, with a = scale A.

    m(l, t) is l ("uniform"), t l ("t"), t^2 l ("t2") or t (l^p - floor^p) / p with p = 1/4 ("ghuber", published), so
    that w(t) of the common gradient is 1, t, t^2 or t l^(p-1). The published ratio to the sampling policy is 1 where
    rollouts are the policy's own, which its authors say they are; it is left out. With ``scale`` 0.2, advantages
    within +-5 and k_old 1 a clip alone stays bounded under "uniform", "t" and "t2".

    Logs ``moved`` and ``drift`` (`distances`).

    Args:
        scale: of the advantages (published 1/5 times 1).
        weight: of the times.
        k_old: weight of the distance to the old policy (published 1).
        k_ref: weight of the distance to the reference (published 1e-4 to 3e-3).
    """

    def __init__(
        self,
        scale: float = 0.2,
        weight: Literal["uniform", "t", "t2", "ghuber"] = "ghuber",
        k_old: float = 1.0,
        k_ref: float = 1e-3,
    ) -> None:
        if weight not in ("uniform", "t", "t2", "ghuber"):
            raise ValueError(f"weight is {weight!r}: use uniform, t, t2 or ghuber")
        self.scale, self.weight, self.k_old, self.k_ref = scale, weight, k_old, k_ref

    def __call__(
        self, policy: Tensor, old: Tensor, reference: Tensor, target: Tensor, advantage: Tensor, t: Tensor
    ) -> tuple[Tensor, Logs]:
        """Loss of B clips and logs (see the base class)."""
        error = Prediction(policy, target).error
        if self.weight == "ghuber":
            match = t * ((error + FLOOR) ** POWER - FLOOR**POWER) / POWER
        else:
            match = error * {"uniform": torch.ones_like(t), "t": t, "t2": t.square()}[self.weight]
        moved, drift, logs = distances(policy, old, reference)
        return (self.scale * advantage * match).mean() + self.k_old * moved + self.k_ref * drift, logs
