"""Stop rule: has anything got worse since the start, asked at every look, at one level for all looks together. Pure.

Looking again and again at 5 % stops almost every long run that is fine. Look m may here spend 6 alpha / (pi^2 m^2),
which sums to alpha over any number of looks (alpha spending; the sum over m of 1 / m^2 is pi^2 / 6), and shares that
equally among its measures (Bonferroni). Neither needs independent looks, so runs that drift slowly are no exception.
The rule is one-sided: only a decline stops.

The t is Hall's (JRSS B 54, 1992, 221), free of skewness to first order. Measured (`stop_alarms`, alpha 5 %, 32 prompts,
40 looks, two measures): 3 % of sound runs are stopped; where the differences are as skewed as an exponential law 4 %,
which the plain t makes 26 %. A decline that grows to one standard deviation of the differences is seen in 96 % of runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from fluxlight.metrics.resampling import Gram
from fluxlight.metrics.statistics import ROUNDING


def spent(look: int, alpha: float) -> float:
    """What look ``look`` (1 is the first) may spend of ``alpha``."""
    if look < 1 or not 0 < alpha < 1:
        raise ValueError(f"look {look} at alpha {alpha}: looks count from 1 and alpha is above 0 and below 1")
    return 6 * alpha / (math.pi * look) ** 2


@dataclass(frozen=True)
class Change:
    """How a measure has moved since the start, on the same prompts and noise.

    Attributes:
        change: now minus start.
        se: its standard error.
        p: one-sided p of "it has not got worse".
        low, high: 95 % interval of this look alone, for the reader.
        n: prompts.
    """

    change: float
    se: float
    p: float
    low: float
    high: float
    n: int


def p_of_rise(t: Any, skewness: Any, n: int) -> Any:
    """One-sided p of a mean above 0, of its t and the skewness of its n values (numbers or arrays of them).

    A sample says too little of a skewness, so it is taken a standard error, sqrt(6 / n), to the safe side (our choice).
    """
    a = (np.asarray(skewness) - math.sqrt(6 / n)) / (6 * math.sqrt(n))
    return stats.t.sf(t + a + 2 * a * t**2 + 4 / 3 * a**2 * t**3, n - 1)


def _change(change: float, parts: np.ndarray, allowed: float, lower_is_better: bool) -> Change:
    """Change of a mean of ``parts`` ``(n,)``, one of each prompt."""
    n, sign = parts.size, 1.0 if lower_is_better else -1.0
    se = 0.0 if np.ptp(parts) <= ROUNDING * np.abs(parts).max() else float(parts.std(ddof=1) / math.sqrt(n))
    half = float(stats.t.ppf(0.975, n - 1)) * se
    worse = sign * change - allowed
    # where all prompts moved alike nothing estimates a spread: the share of sign flips that give as much
    p = float(p_of_rise(worse / se, stats.skew(sign * parts), n)) if se > 0 else 2.0**-n if worse > 0 else 1.0
    return Change(change, se, p, change - half, change + half, n)


def score_change(now: Any, start: Any, tolerance: float = 0.0) -> Change:
    """Change of scores ``(n,)`` against those of the start, higher being better.

    Args:
        now, start: scores of the same prompts, n at least 2.
        tolerance: decline that is allowed, in standard deviations of the start's scores.
    """
    x, y = (np.asarray(values, dtype=np.float64) for values in (now, start))
    if x.shape != y.shape or x.ndim != 1 or x.size < 2:
        raise ValueError(f"stop rule: scores of shapes {x.shape} and {y.shape}: the same 2 prompts or more are needed")
    delta = np.where(np.abs(x - y) <= ROUNDING * max(np.abs(x).max(), np.abs(y).max()), 0.0, x - y)
    return _change(float(delta.mean()), delta, tolerance * float(y.std(ddof=1)), False)


def set_change(make: Callable[[Any], Gram], now: Any, start: Any, lower_is_better: bool) -> Change:
    """Change of a measure of all clips together, its error by leaving out one prompt at a time (jackknife).

    Args:
        make: embeddings ``(n, d)`` -> Gram (`fluxlight.measures.Measure.gram`).
        now, start: embeddings ``(n, d)`` of the same prompts.
        lower_is_better: whether a rise is a decline.
    """
    x, y = (np.asarray(values, dtype=np.float64) for values in (now, start))
    n = len(x)
    both, none = make(np.concatenate([x, y])), np.zeros(n)

    def change(counts: np.ndarray) -> float:
        return both.distance(np.concatenate([counts, none])) - both.distance(np.concatenate([none, counts]))

    if np.array_equal(x, y):
        return _change(0.0, np.zeros(n), 0.0, lower_is_better)
    whole = change(np.ones(n))
    left_out = np.array([change(1.0 - (np.arange(n) == k)) for k in range(n)])
    # pseudo-values: their mean has the jackknife's standard error
    return _change(whole, n * whole - (n - 1) * left_out, 0.0, lower_is_better)


@dataclass(frozen=True)
class StopRule:
    """When to stop.

    Attributes:
        alpha: chance of ever stopping a run in which nothing gets worse, at most.
        tolerance: decline of a score that is allowed, in standard deviations of the start's scores (our choice: none).
    """

    alpha: float = 0.05
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        spent(1, self.alpha)
        if not 0 <= self.tolerance < math.inf:
            raise ValueError(f"tolerance is {self.tolerance}: it is a decline that is allowed, 0 or more")

    def judge(self, look: int, changes: Mapping[str, Change]) -> Verdict:
        """The verdict of look ``look`` (1 is the first) over all measures of that look."""
        level = spent(look, self.alpha) / max(len(changes), 1)
        return Verdict(look, level, {name: c for name, c in changes.items() if c.p <= level})


@dataclass(frozen=True)
class Verdict:
    """What a look says: the p below which a measure stops the run, and the measures that did."""

    look: int
    level: float
    worse: dict[str, Change] = field(default_factory=dict)

    @property
    def stop(self) -> bool:
        """Whether anything has got worse."""
        return bool(self.worse)
