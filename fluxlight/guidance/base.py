"""Guidance: how the velocities of a model under several conditions become one velocity.

A branch is a condition: ``conditional`` (text and score), ``negative`` (negative text, negative score) and ``text``
(text, null score). A kind of guidance says with which factors they enter and, where it is more than a sum, how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fluxlight.backbone.base import Prepared
from fluxlight.model import FluxModel
from fluxlight.recorded import Recorded, class_path

Branch = Literal["conditional", "negative", "text"]


@dataclass(frozen=True)
class WeightSchedule:
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


class Guidance(Recorded):
    """A kind of guidance. One file each; settings of its own are arguments of ``__init__``.

    Weight, schedule, negative text and negative score belong to the sampler and go with every kind. A kind that is a
    sum of branches overrides `factors`; any other overrides `combine`.
    """

    has_score_weight: bool = False
    """Whether a weight of its own for the score makes sense."""

    def factors(self, weight: float, score_weight: float | None) -> dict[Branch, float]:
        """Factor of each branch, which sum to 1; a branch whose factor is 0 is not computed.

        Args:
            weight: of the text, or of text and score together, at this time; 1 is no guidance.
            score_weight: of the score, at this time; None where it has none of its own.
        """
        return {"conditional": weight, "negative": 1 - weight}

    def is_silent(self, t: float) -> bool:
        """Whether the velocity is 0 at time ``t``, so that no branch is computed."""
        return False

    def combine(
        self,
        velocities: Mapping[Branch, Tensor],
        factors: Mapping[Branch, float],
        x: Tensor,
        t: float,
        memory: dict[str, Any],
    ) -> Tensor:
        """The guided velocity ``(B, L, D)``; called where more than one branch has a factor.

        Args:
            velocities: of each branch with a factor, ``(B, L, D)``.
            factors: see `factors`; without those that are 0.
            x: where the sampler is ``(B, L, D)``, normalised.
            t: time, 1 is noise.
            memory: empty at the start of a clip's way, the same dict in each of its steps.
        """
        return weighted_sum(velocities, factors)

    def plain(self) -> dict[str, Any]:
        """The kind with its settings as plain values."""
        return {"class_path": class_path(self), "init_args": dict(self.init_args)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Guidance) and self.plain() == other.plain()

    def __hash__(self) -> int:
        return hash(repr(self.plain()))

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.init_args.items())
        return f"{type(self).__name__}({settings})"


@dataclass
class GuidedVelocity:
    """A model under conditions and a guidance, as a velocity. Made by `guide`.

    Attributes:
        model: the model.
        guidance: the kind.
        branches: prepared conditions by name.
        weight, score_weight: full weights.
        schedule: how they depend on t.
        joined: run all branches as one batch.
    """

    model: FluxModel
    guidance: Guidance
    branches: dict[Branch, Prepared]
    weight: float
    score_weight: float | None
    schedule: WeightSchedule
    joined: bool

    def __post_init__(self) -> None:
        self.memory: dict[str, Any] = {}

    def factors(self, t: float) -> dict[Branch, float]:
        """Factors of the branches that are computed at ``t``."""
        score = None if self.score_weight is None else self.schedule.weight(self.score_weight, t)
        found = self.guidance.factors(self.schedule.weight(self.weight, t), score)
        return {name: factor for name, factor in found.items() if factor != 0}

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Guided velocity ``(B, L, D)``."""
        if self.guidance.is_silent(t):
            return torch.zeros_like(x)
        factors = self.factors(t)
        found = self.model.velocities(x, t, [self.branches[name] for name in factors], joined=self.joined)
        velocities = dict(zip(factors, found, strict=True))
        if len(factors) == 1:
            return weighted_sum(velocities, factors)
        return self.guidance.combine(velocities, factors, x, t, self.memory)


def weighted_sum(velocities: Mapping[Branch, Tensor], factors: Mapping[Branch, float]) -> Tensor:
    """Sum of factor times velocity, in the order of ``factors``."""
    total: Tensor | None = None
    for name, factor in factors.items():
        part = factor * velocities[name]
        total = part if total is None else total + part
    if total is None:
        raise ValueError("every branch of the guidance has factor 0: factors must sum to 1")
    return total
