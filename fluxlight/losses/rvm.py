"""RVM (arXiv 2608.23664; METHODS 1.5): flow matching weighed by a small signed advantage, as regression."""

from __future__ import annotations

from torch import Tensor

from fluxlight.losses.base import Logs, PolicyLoss, distances, per_clip, pushed


class RVMLoss(PolicyLoss):
    """Regression of v on the fixed point v - [scale A (v - u) + k_old (v - v_o) + k_ref (v - v_r)].

    Its gradient is that of mean[scale A |v - u|^2] + the anchors, and its value is not negative.

    Logs ``moved`` and ``drift`` (`distances`).

    Args:
        scale: of the advantages (published 0.1).
        k_old: weight of the distance to the old policy (published 0).
        k_ref: weight of the distance to the reference (published: optional).
    """

    def __init__(self, scale: float = 0.1, k_old: float = 0.0, k_ref: float = 0.0) -> None:
        self.scale, self.k_old, self.k_ref = scale, k_old, k_ref

    def __call__(
        self, policy: Tensor, old: Tensor, reference: Tensor, target: Tensor, advantage: Tensor, t: Tensor
    ) -> tuple[Tensor, Logs]:
        """Loss of B clips and logs (see the base class)."""
        push = per_clip(self.scale * advantage, old) * (policy - target)
        push = push + self.k_old * (policy - old) + self.k_ref * (policy - reference)
        return pushed(policy, push).mean(), distances(policy, old, reference)[2]
