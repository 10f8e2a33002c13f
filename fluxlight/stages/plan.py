"""The plan of a scale: how long, how large and how fast each stage trains, as one table that stage configs refer to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, make_dataclass


@dataclass
class Step:
    """Numbers of one stage; defaults are the published SFT recipe (FACTS section 3).

    Attributes:
        updates: optimiser updates.
        batch: clips (CRPO: pairs) of a batch in one process.
        accumulate: batches of an update.
        lr: peak learning rate.
        warmup: updates of linear warm-up.
        epoch: batches between two checkpoints; divides updates x accumulation, and is a multiple of accumulation.
    """

    updates: int = 200_000
    batch: int = 32
    accumulate: int = 2
    lr: float = 1e-4
    warmup: int = 1_000
    epoch: int = 1_000


@dataclass
class Plan:
    """Numbers of every stage. A config reads them as ``${plan.sft.lr}``, a scale overlay or a flag sets them.

    Attributes:
        trunk: the text-only model that rows 0 and 1 branch from.
        sft: rows 0 (no head) and 1 (score-conditioned), equal by construction.
        expert_iter: row 2, the mixture.
        expert_polish: row 2, the experts alone.
        crpo: row 4.
        online: reinforcement on rollouts, not published; at `full` the settings of others (METHODS 1.9).
    """

    trunk: Step = field(default_factory=Step)
    sft: Step = field(default_factory=Step)
    expert_iter: Step = field(default_factory=lambda: Step(30_000, 32, 2, 1e-5, 0))
    expert_polish: Step = field(default_factory=lambda: Step(5_000, 32, 2, 1e-6, 0))
    crpo: Step = field(default_factory=lambda: Step(5_000, 8, 1, 1e-6, 100))
    online: Step = field(default_factory=lambda: Step(200, 32, 48, 1e-5, 0, 96))


def plan_with(names: Iterable[str]) -> type[Plan]:
    """`Plan` with further steps: a stage of one's own has its numbers in a scale file like any other."""
    more = [(name, Step, field(default_factory=Step)) for name in names if name not in Plan.__dataclass_fields__]
    if not more:
        return Plan
    made = make_dataclass("Plan", more, bases=(Plan,))
    made.__module__, made.__doc__ = __name__, Plan.__doc__
    return made
