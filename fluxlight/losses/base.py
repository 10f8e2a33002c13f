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
