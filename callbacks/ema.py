"""PowerEMA: averaged weights under the power-function profile of EDM2 (FACTS section 7)."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class PowerEMA(WeightAveraging):
    """Weight average with beta_n = (1 - 1/n)^(1 + gamma) after n updates. Put it last in the list of callbacks.

    Validation then renders the averaged weights; the bundle keeps the raw ones and the averaged ones beside them.

    Args:
        gamma: shape of the profile; 16.972 is sigma_rel 0.05, 6.937 is 0.1 (FACTS section 7).
    """

    def __init__(self, gamma: float = 16.972) -> None:
        self.gamma = gamma
        super().__init__(avg_fn=lambda average, current, n: power_average(average, current, n, gamma))


def power_average(average: Tensor, current: Tensor, n: Any, gamma: float) -> Tensor:
    """The average after one more update; ``n`` is the number of updates in it so far (1 or more)."""
    beta = (1 - 1 / (n + 1)) ** (1 + gamma)
    return average * beta + current * (1 - beta)
