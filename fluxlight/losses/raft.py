"""RAFT (METHODS 1.1): flow matching on the clips that are good for their prompt; the others are left out."""

from __future__ import annotations

from torch import Tensor

from fluxlight.flow import Prediction
from fluxlight.losses.base import Logs, PolicyLoss, distances


class RAFTLoss(PolicyLoss):
    """mean[kept |v - u|^2] + k_old |v - v_o|^2 + k_ref |v - v_r|^2; kept is 1 where the advantage is above a threshold.

    An online form of expert iteration: no clip is unlearned.

    Logs ``kept``, the share that is learned, ``moved`` and ``drift`` (`distances`).

    Args:
        above: advantage from which on a clip is kept (our choice: half a standard deviation above its prompt's mean).
        k_old: weight of the distance to the old policy.
        k_ref: weight of the distance to the reference.
    """

    def __init__(self, above: float = 0.5, k_old: float = 0.0, k_ref: float = 0.0) -> None:
        self.above, self.k_old, self.k_ref = above, k_old, k_ref

    def __call__(
        self, policy: Tensor, old: Tensor, reference: Tensor, target: Tensor, advantage: Tensor, t: Tensor
    ) -> tuple[Tensor, Logs]:
        """Loss of B clips and logs (see the base class)."""
        kept = (advantage >= self.above).float()
        moved, drift, logs = distances(policy, old, reference)
        learned = (kept * Prediction(policy, target).error).mean()
        return learned + self.k_old * moved + self.k_ref * drift, {**logs, "kept": kept.mean()}
