"""Statistics of paired rows: intervals, paired tests, Holm, effect size, the smallest effect a sample could have seen.

All tests are two-sided and all intervals are 95 % unless ``alpha`` says otherwise (our choice; the published text
speaks of "paired-t significant" without a correction).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fluxlight.metrics.arrays import array64

ROUNDING = 1e-12
"""Differences below this share of the values are rounding, not differences (float64 has 2e-16; our choice)."""


@dataclass(frozen=True)
class Mean:
    """A mean with its t interval."""

    mean: float
    low: float
    high: float
    sd: float
    n: int


@dataclass(frozen=True)
class Paired:
    """System against another on the same prompts.

    Attributes:
        difference, low, high: mean of the paired differences and its t interval.
        low90, high90: 90 % t interval, for tests of equivalence.
        bootstrap_low, bootstrap_high: percentile interval of 2,000 resamples of the prompts, free of the normal law.
        t, p_t: paired t test; where all differences are equal there is no t (None), and p is that of the sign flips.
        p_wilcoxon: Wilcoxon signed-rank test.
        wins, losses, ties: prompts on which the system is higher, lower, equal.
        effect: Cohen's d_z, the mean difference over the standard deviation of the differences; None where that is 0.
        smallest: the smallest mean difference this n would have seen with 80 % power.
        n: prompts compared.
    """

    difference: float
    low: float
    high: float
    low90: float
    high90: float
    bootstrap_low: float
    bootstrap_high: float
    t: float | None
    p_t: float
    p_wilcoxon: float
    wins: int
    losses: int
    ties: int
    effect: float | None
    smallest: float
    n: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def _values(x: Any, name: str) -> NDArray[np.float64]:
    array = array64(x)
    if array.ndim != 1 or array.size < 2:
        raise ValueError(f"{name}: needs a list of at least 2 values, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: {int((~np.isfinite(array)).sum())} of {array.size} values are not finite")
    return array


def t_interval(x: Any, alpha: float = 0.05) -> Mean:
    """Mean of values ``(n,)`` with its 1 - alpha t interval."""
    array = _values(x, "t interval")
    n, mean = array.size, float(array.mean())
    # of equal values the mean is one of them but for rounding: their spread is 0
    sd = 0.0 if np.ptp(array) == 0 else float(array.std(ddof=1))
    half = float(stats.t.ppf(1 - alpha / 2, n - 1)) * sd / np.sqrt(n)
    return Mean(mean, mean - half, mean + half, sd, n)


def smallest_effect(sd: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest mean difference seen with the given power: (t_(1 - alpha/2) + t_power) sd / sqrt(n)."""
    return seen_with(float(sd / np.sqrt(n)), n - 1, alpha, power)


def seen_with(se: float, df: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest difference of standard error ``se`` with ``df`` degrees of freedom that is seen with the given power."""
    return float((stats.t.ppf(1 - alpha / 2, df) + stats.t.ppf(power, df)) * se)


def share_interval(hits: float, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Wilson's interval of a share of ``hits`` (halves for ties) in ``n`` trials."""
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"share: {hits:g} of {n}: hits lie between 0 and the number of trials, at least 1")
    z2 = float(stats.norm.ppf(1 - alpha / 2)) ** 2
    share = hits / n
    middle, root = share + z2 / (2 * n), np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2)))
    low, high = (middle - root) / (1 + z2 / n), (middle + root) / (1 + z2 / n)
    return max(0.0, float(low)), min(1.0, float(high))


def _bootstrap(delta: NDArray[np.float64], alpha: float, resamples: int = 2000) -> tuple[float, float]:
    # seeded by n alone: the same prompts are drawn for every measure and every pair of rows
    index = np.random.default_rng(delta.size).integers(0, delta.size, (resamples, delta.size))
    low, high = np.quantile(delta[index].mean(axis=1), [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def paired(x: Any, y: Any, alpha: float = 0.05, scale: float | None = None) -> Paired:
    """Compare system values ``(n,)`` with another's on the same prompts ``(n,)``; positive means x is higher.

    Two systems without any difference have t = 0 and p = 1. Where all differences are one number other than 0, nothing
    estimates their spread: there is no t, and p = 2^(1 - n), the share of sign flips that give as large a mean.

    Args:
        x, y: values of the two systems.
        alpha: 1 - the level of the intervals.
        scale: size of the values, against which a difference counts as rounding; the largest value by default.
    """
    x, y = _values(x, "paired test"), _values(y, "paired test")
    if x.shape != y.shape:
        raise ValueError(f"paired test: {x.size} and {y.size} values: both systems need the same prompts")
    noise = ROUNDING * (scale or max(np.abs(x).max(), np.abs(y).max()))
    delta = np.where(np.abs(x - y) <= noise, 0.0, x - y)
    if np.ptp(delta) <= noise:
        delta = np.full_like(delta, delta.mean())
    interval, n = t_interval(delta, alpha), delta.size
    t: float | None = None
    effect: float | None = None
    if not delta.any():
        t, effect, p_t = 0.0, 0.0, 1.0
    elif np.ptp(delta) == 0:
        p_t = 2.0 ** (1 - n)
    else:
        found = stats.ttest_1samp(delta, 0.0)
        t, p_t = float(found.statistic), float(found.pvalue)
        effect = float(t / np.sqrt(n))
    p_wilcoxon = 1.0 if not delta.any() else float(stats.wilcoxon(delta).pvalue)
    wins, losses = int((delta > 0).sum()), int((delta < 0).sum())
    smallest = smallest_effect(interval.sd, n, alpha)
    low, high = _bootstrap(delta, alpha)
    narrow = t_interval(delta, 2 * alpha)
    return Paired(
        interval.mean, interval.low, interval.high, narrow.low, narrow.high, low, high, t, p_t, p_wilcoxon, wins,
        losses, n - wins - losses, effect, smallest, n,
    )  # fmt: skip


UNCHANGED, CHANGED, CANNOT_TELL = "unchanged", "changed", "cannot tell"


def equivalence(
    interval: tuple[float, float], interval90: tuple[float, float], margin: float, monte_carlo: float = 0.0
) -> str:
    """Whether a difference stays within ``margin``: two one-sided tests at 5 % (Schuirmann 1987; METHODS section 3).

    Both tests reject where the 90 % interval lies inside (-margin, margin): "unchanged". A 95 % interval wholly beyond
    one margin is "changed". Everything else, and what an end decides by less than its Monte-Carlo error, is "cannot
    tell".

    Args:
        interval, interval90: 95 % and 90 % interval of the difference.
        margin: the largest difference that counts as none, above 0.
        monte_carlo: error of the ends.
    """
    if margin <= 0:
        raise ValueError(f"margin is {margin:g}: give a difference above 0")
    low, high = interval90
    if low - monte_carlo > -margin and high + monte_carlo < margin:
        return UNCHANGED
    return CHANGED if interval[0] - monte_carlo > margin or interval[1] + monte_carlo < -margin else CANNOT_TELL


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p of every named test: multiply the k-th smallest by m - k + 1 and keep them rising."""
    order = sorted(p_values, key=lambda name: p_values[name])
    adjusted: dict[str, float] = {}
    running = 0.0
    for k, name in enumerate(order):
        running = max(running, min(1.0, p_values[name] * (len(order) - k)))
        adjusted[name] = running
    return {name: adjusted[name] for name in p_values}


def spearman(x: Any, y: Any) -> float:
    """Rank correlation of two judges on the same clips ``(n,)``; 0 when one of them never varies."""
    x, y = _values(x, "rank agreement"), _values(y, "rank agreement")
    if any(np.ptp(values) <= ROUNDING * np.abs(values).max() for values in (x, y)):
        return 0.0
    return float(stats.spearmanr(x, y).statistic)


def slope(settings: Sequence[float], values: Any, alpha: float = 0.05) -> Mean:
    """Least-squares slope of ``values`` (k, n) over k ``settings``: one per prompt, with a t interval over prompts.

    A slope per prompt keeps the pairing: prompts differ far more than settings do.
    """
    x = _values(settings, "slope settings")
    y = array64(values)
    if y.ndim != 2 or y.shape[0] != x.size:
        raise ValueError(f"slope: {x.size} settings but values of shape {y.shape}, expected ({x.size}, n)")
    if x.std() == 0:
        raise ValueError("slope: all settings are equal")
    centred = x - x.mean()
    return t_interval(centred @ y / (centred @ centred), alpha)
