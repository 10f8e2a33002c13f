"""Guidance: velocity wrappers. Each is called as ``(x, t)`` and gives a velocity; the sampler knows none of them.

A model under conditions becomes a velocity by `JointGuidance` or `SeparateGuidance`; two velocities (of two
checkpoints, say) become one by `Crossover` or `Average`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fluxlight.model import FluxModel
from fluxlight.types import Condition

Velocity = Callable[[Tensor, float], Tensor]
"""x ``(B, L, D)``, normalised, and t in [0, 1] (1 is noise) -> dx/dt ``(B, L, D)``."""


@dataclass(frozen=True)
class Schedule:
    """How much of the guidance is applied at time t: a weight w acts as 1 + (w - 1) share(t).

    The published code offers the three kinds; the end point of the anneal (weight 1 at the data) is our choice.

    Attributes:
        kind: "constant"; "anneal" falls linearly from full at t = 1 (noise) to none at t = 0;
            "interval" is full inside ``interval`` and none outside, where the negative branch is not computed.
        interval: lowest and highest t of "interval", both included.
    """

    kind: Literal["constant", "anneal", "interval"] = "constant"
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        low, high = self.interval
        if self.kind not in ("constant", "anneal", "interval"):
            raise ValueError(f"schedule is {self.kind!r}: use constant, anneal or interval")
        if not 0 <= low < high <= 1:
            raise ValueError(f"interval {low}, {high} must rise within 0 .. 1 (t = 1 is noise)")

    def weight(self, full: float, t: float) -> float:
        """Weight at time ``t`` of a guidance whose weight is ``full``."""
        if self.kind == "constant":
            return full
        share = t if self.kind == "anneal" else float(self.interval[0] <= t <= self.interval[1])
        return 1 + (full - 1) * share


class JointGuidance:
    """Classifier-free guidance over text and score at once, the published way (FACTS section 4).

    w v(x, t, text, s) + (1 - w) v(x, t, negative text, null score). Conditions are projected once, when made.

    Args:
        model: the model.
        condition: text ``(B, T, E)``, ``(B, C)``.
        score: ``(B,)``, one number for all, or None for the null score.
        weight: w; at 1 the negative branch is not computed.
        negative: text of the other branch; the model's stored negative text when None.
        schedule: how w depends on t.
        joined: run both branches as one batch; None does so for one or two clips, where it is faster.
    """

    def __init__(
        self,
        model: FluxModel,
        condition: Condition,
        score: Tensor | float | None = None,
        weight: float = 4.0,
        negative: Condition | None = None,
        schedule: Schedule | None = None,
        joined: bool | None = None,
    ) -> None:
        n = condition.text.shape[0]
        self.model, self.weight, self.schedule = model, weight, schedule or Schedule()
        self.joined = n <= 2 if joined is None else joined
        given = _scores(score, condition)
        self.branches = [
            model.prepare(condition, given),
            model.prepare(model.negative_condition(n) if negative is None else negative),
        ]

    def coefficients(self, t: float) -> list[float]:
        """Factor of each branch at ``t``; they sum to 1."""
        w = self.schedule.weight(self.weight, t)
        return [w, 1 - w]

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Guided velocity ``(B, L, D)``."""
        used = [(b, c) for b, c in zip(self.branches, self.coefficients(t), strict=True) if c != 0]
        velocities = self.model.velocities(x, t, [b for b, _ in used], joined=self.joined)
        total = used[0][1] * velocities[0]
        for velocity, (_, coefficient) in zip(velocities[1:], used[1:], strict=True):
            total = total + coefficient * velocity
        return total


class SeparateGuidance(JointGuidance):
    """Guidance with a weight for the text and one for the score (our choice of the usual nested form).

    v_n + w (v_t - v_n) + u (v_s - v_t), where v_n has negative text and null score, v_t text and null score,
    v_s text and score. Equal weights give `JointGuidance`. Three forwards a step.

    Args:
        score_weight: u; the other arguments are those of `JointGuidance`, where ``weight`` is the text's.
    """

    def __init__(
        self,
        model: FluxModel,
        condition: Condition,
        score: Tensor | float | None = None,
        weight: float = 4.0,
        score_weight: float = 4.0,
        negative: Condition | None = None,
        schedule: Schedule | None = None,
        joined: bool | None = None,
    ) -> None:
        super().__init__(model, condition, score, weight, negative, schedule, joined)
        self.score_weight = score_weight
        self.branches.append(model.prepare(condition))

    def coefficients(self, t: float) -> list[float]:
        """Factors of (text and score, negative, text alone)."""
        w, u = self.schedule.weight(self.weight, t), self.schedule.weight(self.score_weight, t)
        return [u, 1 - w, w - u]


class Crossover:
    """One velocity for the noisy part of the way and another for the rest; swap the arguments for the reverse.

    Args:
        first: used for t > ``at`` (the beginning of sampling).
        second: used for t <= ``at``.
        at: time of the change.
    """

    def __init__(self, first: Velocity, second: Velocity, at: float = 0.5) -> None:
        self.first, self.second, self.at = first, second, at

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Velocity ``(B, L, D)`` of whichever is on."""
        return self.first(x, t) if t > self.at else self.second(x, t)


class Average:
    """Weighted mean of two velocities.

    Args:
        first: gets ``weight``.
        second: gets 1 - ``weight``.
        weight: share of the first.
    """

    def __init__(self, first: Velocity, second: Velocity, weight: float = 0.5) -> None:
        self.first, self.second, self.weight = first, second, weight

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Averaged velocity ``(B, L, D)``."""
        return self.weight * self.first(x, t) + (1 - self.weight) * self.second(x, t)


def _scores(score: Tensor | float | None, condition: Condition) -> Tensor | None:
    n, device = condition.text.shape[0], condition.text.device
    if score is None:
        return None
    if isinstance(score, Tensor) and score.dim():
        return score.to(device=device, dtype=torch.float32)
    return torch.full((n,), float(score), device=device)
