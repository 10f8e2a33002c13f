"""Stop alarms: how often a stop rule stops runs in which nothing gets worse (A/A), and how soon it sees a decline."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from fluxlight.validity.stop_rule import p_of_rise, spent

BLOCK = 50  # runs in memory at a time


@dataclass(frozen=True)
class Course:
    """How simulated runs go. Differences to the start are standard normal before skew.

    Attributes:
        looks: of a run.
        prompts: of a look.
        measures: that are tested at each look.
        within: correlation of a prompt's difference at one look and the next: weights move little between looks.
        between: correlation of the measures of one look: judges hear the same clips.
        decline: mean of the differences at the last look, in their standard deviations; it grows evenly, 0 is A/A.
        skewed: differences with the skewness 2 of an exponential law in place of normal ones.
    """

    looks: int = 40
    prompts: int = 32
    measures: int = 2
    within: float = 0.8
    between: float = 0.7
    decline: float = 0.0
    skewed: bool = False


@dataclass(frozen=True)
class StopRate:
    """Share of runs that were stopped.

    Attributes:
        rate: of ``runs``.
        low, high: 95 % interval (Clopper and Pearson 1934).
        look: mean look of the stop, NaN where none was stopped.
    """

    rate: float
    low: float
    high: float
    look: float
    runs: int


def differences(course: Course, runs: int, seed: int) -> np.ndarray:
    """Differences to the start ``(runs, looks, measures, prompts)``: AR(1) over looks, one factor over measures."""
    draw = np.random.default_rng([seed, 31])
    shape = (runs, course.looks, course.measures, course.prompts)
    common, own = draw.standard_normal((*shape[:2], 1, shape[3])), draw.standard_normal(shape)
    new = math.sqrt(course.between) * common + math.sqrt(1 - course.between) * own
    for look in range(1, course.looks):
        new[:, look] = course.within * new[:, look - 1] + math.sqrt(1 - course.within**2) * new[:, look]
    if course.skewed:
        # the tail on the good side: a sample that lacks it looks worse than it is, and surer
        new = -np.log(special.ndtr(-new)) - 1.0
    return new - course.decline * np.arange(1, course.looks + 1)[:, None, None] / course.looks


def stop_rate(course: Course, runs: int = 1000, alpha: float = 0.05, seed: int = 0, naive: bool = False) -> StopRate:
    """Share of ``runs`` that the rule stops at ``alpha``; ``naive`` tests every look at alpha, as one should not."""
    n = course.prompts
    level = np.array([alpha if naive else spent(m, alpha) for m in range(1, course.looks + 1)]) / course.measures
    stops: list[int] = []
    for part, start in enumerate(range(0, runs, BLOCK)):
        delta = differences(course, min(BLOCK, runs - start), seed * 1_000_003 + part)
        t = delta.mean(-1) / (delta.std(-1, ddof=1) / math.sqrt(n))
        centred = delta - delta.mean(-1, keepdims=True)
        skewness = (centred**3).mean(-1) / (centred**2).mean(-1) ** 1.5
        below = p_of_rise(-t, -skewness, n).min(axis=-1) <= level
        stops += (below[below.any(axis=1)].argmax(axis=1) + 1).tolist()
    exact = stats.binomtest(len(stops), runs).proportion_ci(0.95)
    look = float(np.mean(stops)) if stops else math.nan
    return StopRate(len(stops) / runs, float(exact.low), float(exact.high), look, runs)
