"""What a loss over predictions is: pure functions of velocities and targets, settings by name."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from fluxlight.flow import Prediction
from fluxlight.recorded import Recorded

Logs = dict[str, Tensor]
"""What a loss tells beside itself: name -> scalar, detached; logged as ``train/<name>``."""


class PreferenceLoss(Recorded, ABC):
    """A loss over winner and loser of one caption, which share noise, time and coins.

    One file of this folder: subclass, take settings by name, implement `__call__`.
    """

    @abstractmethod
    def __call__(
        self, winner: Prediction, loser: Prediction, reference_winner: Prediction, reference_loser: Prediction
    ) -> tuple[Tensor, Logs]:
        """Loss of B pairs (a scalar) and logs; the reference's predictions carry no gradient."""


class PolicyLoss(Recorded, ABC):
    """A loss over clips with an advantage: positive ones are learned, negative ones unlearned.

    All shipped ones have one gradient in the policy's velocity v (METHODS 1.1, G), with u the target, v_o the old
    policy, v_r the reference and a weight a of each clip:
    (2 / N) [a w(t) (v* - u) + k_old (v - v_o) + k_ref (v - v_r)].

    One file of this folder: subclass, take settings by name, implement `__call__`.
    """

    @abstractmethod
    def __call__(
        self, policy: Tensor, old: Tensor, reference: Tensor, target: Tensor, advantage: Tensor, t: Tensor
    ) -> tuple[Tensor, Logs]:
        """Loss of B clips (a scalar) and logs.

        Args:
            policy: velocity of the trained model ``(B, L, D)``.
            old: velocity of the policy that drew the clips ``(B, L, D)``, without gradient.
            reference: velocity of the frozen reference ``(B, L, D)``, without gradient.
            target: velocity of the path, x0 - x1 ``(B, L, D)``.
            advantage: of each clip ``(B,)``.
            t: flow times ``(B,)``, 1 is noise.
        """


def distances(policy: Tensor, old: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Logs]:
    """Mean squared distances of the policy to the old policy and to the reference, and both as logs.

    ``moved`` is the one, ``drift`` the other: the value of a policy loss says nothing of progress (METHODS 1.1).

    Args:
        policy, old, reference: velocities ``(B, L, D)``; gradients come from the policy alone.
    """
    moved, drift = Prediction(policy, old).error.mean(), Prediction(policy, reference).error.mean()
    return moved, drift, {"moved": moved.detach(), "drift": drift.detach()}


def pushed(policy: Tensor, push: Tensor) -> Tensor:
    """Mean squared distance ``(B,)`` to the fixed point policy - push ``(B, L, D)``.

    Its gradient in the policy is (2 / elements) push, whatever the sign of an advantage in it, and it is never
    negative.
    """
    return Prediction(policy, (policy - push).detach()).error


def per_clip(values: Tensor, like: Tensor) -> Tensor:
    """``values`` ``(B,)`` in a shape that multiplies ``like`` ``(B, L, D)``."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
