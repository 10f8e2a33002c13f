"""What a loss over predictions is: pure functions of velocities and targets, settings by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from fluxlight.flow import Prediction
from fluxlight.recorded import Recorded

Logs = dict[str, Tensor]
"""What a loss tells beside itself: name -> scalar, detached; logged as ``train/<name>``."""
Sharpness = float | Literal["auto"]
"""What an error is multiplied by before a sigmoid; "auto" is set from the data (`PreferenceLoss.adapt`)."""
LIVELY = 10.0
"""Under "auto", what stands inside the sigmoid at a margin of one standard deviation of the reference's own difference
between loser and winner (our choice). Measured on a text-only model of `laptop` and two clips of each of 16 prompts:
that deviation is .113, so a DPO's beta is 177; ten updates at 2e-5 with the published 2000 reach a margin of .009, at
which 94 of 100 pairs are dead, where 177 leaves a third of the gradient."""
DEAD = 0.01
"""A pair whose share of the gradient is below this (1/2 at the start) teaches nothing any more (our choice)."""


class PreferenceLoss(Recorded, ABC):
    """A loss over winner and loser of one caption, which share noise, time and coins.

    One file of this folder: subclass, take settings by name, implement `__call__`. All log ``accuracy``, the share of
    pairs that are told apart the right way, and ``weight`` and ``dead``, how much of the gradient is left (`alive`).

    Attributes:
        paired: False where winner and loser need not be of one caption.
        spread: standard deviation of L_loser - L_winner under the reference; None until `adapt` was told.
    """

    paired = True
    spread: float | None = None

    @abstractmethod
    def __call__(
        self, winner: Prediction, loser: Prediction, reference_winner: Prediction, reference_loser: Prediction
    ) -> tuple[Tensor, Logs]:
        """Loss of B pairs (a scalar) and logs; the reference's predictions carry no gradient."""

    @property
    def auto(self) -> bool:
        """True where a setting waits for `adapt`."""
        return "auto" in self.init_args.values()

    def adapt(self, spread: float) -> None:
        """Set what is "auto" from the spread of L_loser - L_winner under the reference."""
        if not spread > 0:
            raise ValueError(
                f"the reference's errors of winners and losers differ by {spread}: nothing to set model.loss by; "
                "give a number in place of auto"
            )
        self.spread = spread

    def sharpness(self, value: Sharpness, slope: float = 1.0) -> float:
        """``value``, or what brings ``slope`` x one spread to `LIVELY` where it is "auto"."""
        if value != "auto":
            return value
        if self.spread is None:
            raise ValueError("a setting of the loss is auto and the spread of the reference is not known: call adapt")
        return LIVELY / (slope * self.spread)


def alive(weight: Tensor) -> Logs:
    """``weight``: mean share of its gradient that a pair still has, 1/2 at the start; ``dead``: pairs below `DEAD`.

    Args:
        weight: of each pair ``(B,)``; sigmoid(-inside) in a loss with a sigmoid.
    """
    weight = weight.detach()
    return {"weight": weight.mean(), "dead": (weight < DEAD).float().mean()}


def mean_of_all(values: Tensor) -> Tensor:
    """Mean over the values of all processes, without gradient; each has equally many."""
    mean = values.detach().mean()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean = mean / torch.distributed.get_world_size()
    return mean


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
