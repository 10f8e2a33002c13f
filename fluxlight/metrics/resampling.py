"""Resampling of set distances (FAD, KAD): jackknife of one, joint bootstrap and permutation of a difference, floor.

Resampling with replacement biases a single FAD upward, since repeated clips make the covariance look thinner. So one
FAD gets a jackknife, and only differences are bootstrapped: both systems lose the same prompts, and the bias of the
resamples is taken out by centring them on the observed difference.

One comparison has one interval, in whatever table it stands: the resamples of the interval are keyed by the seed and
the number of prompts alone, and their number does not follow that of the permutations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fluxlight.metrics.arrays import embeddings64

DRAWS = 2000
"""Resamples of an interval: its ends then move by a ninth of a standard error from seed to seed (our choice)."""


class Gram(Protocol):
    """A distance of any resample of n clips (FrechetGram, KernelGram)."""

    n: int

    def distance(self, counts: Any | None = None) -> float:
        """Distance when clip i is taken counts[i] times."""


@dataclass(frozen=True)
class Distance:
    """A set distance with its jackknife interval and standard error."""

    value: float
    low: float
    high: float
    se: float
    n: int


@dataclass(frozen=True)
class DistanceChange:
    """Difference of two set distances (system minus other; lower is better).

    Attributes:
        difference, low, high: observed difference and its 95 % joint-bootstrap interval.
        low90, high90: its 90 % interval, for tests of equivalence.
        monte_carlo: how far an end of the interval may lie from that of endless resamples (95 %, see `quantile_error`).
        p: permutation p: how often swapping the two systems' clips of random prompts makes as large a difference.
        smallest: smallest difference seen with 80 % power, 2.80 bootstrap standard errors.
        n: prompts.
        resamples: permutations.
    """

    difference: float
    low: float
    high: float
    low90: float
    high90: float
    monte_carlo: float
    p: float
    smallest: float
    n: int
    resamples: int


@dataclass(frozen=True)
class Floor:
    """Distance of n held-out reference clips to the rest, over repeats: what a perfect system would score."""

    mean: float
    low: float
    high: float
    n: int
    rest: int
    repeats: int


def jackknife(gram: Gram, alpha: float = 0.05) -> Distance:
    """Distance of all clips with the interval of leaving out one clip at a time."""
    n = gram.n
    value = gram.distance()
    left_out = np.empty(n)
    for i in range(n):
        counts = np.ones(n)
        counts[i] = 0
        left_out[i] = gram.distance(counts)
    se = float(np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()))
    half = float(stats.t.ppf(1 - alpha / 2, n - 1)) * se
    return Distance(value, value - half, value + half, se, n)


def distance_change(
    make: Callable[[Any], Gram], x: Any, y: Any, resamples: int = 1000, seed: int = 0, alpha: float = 0.05,
    draws: int = DRAWS,
) -> DistanceChange:  # fmt: skip
    """Difference of the distances of two systems' clips on the same prompts.

    Args:
        make: clips -> Gram, for instance ``lambda e: FrechetGram(e, mean, cov)``.
        x: clips of the system, item i made from prompt i: embeddings ``(n, d)``, or a list of the windows of each.
        y: clips of the other, likewise.
        resamples: number of random swaps, for p.
        seed: of the resampling.
        alpha: 1 - the level of the interval.
        draws: bootstrap resamples of prompts, for the interval.
    """
    change, n = _change(make, [x], [y])
    observed = change(np.ones(n))
    drawn = _drawn(change, n, seed, draws)
    centred = drawn - drawn.mean()
    ends = [observed + float(v) for v in np.quantile(centred, [alpha / 2, 1 - alpha / 2, alpha, 1 - alpha])]
    error = max(quantile_error(centred, q) for q in (alpha / 2, 1 - alpha / 2))
    rng = np.random.default_rng([seed, n, _SWAPS])
    swaps = np.array([change(keep, 1 - keep) for keep in rng.integers(0, 2, (resamples, n)).astype(np.float64)])
    # + 1: the observed labelling is one of the permutations, which keeps the test exact
    p = (1 + int((np.abs(swaps) >= abs(observed) - 1e-12).sum())) / (resamples + 1)
    power = float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(0.8))
    smallest = power * float(drawn.std(ddof=1))
    return DistanceChange(observed, ends[0], ends[1], ends[2], ends[3], error, p, smallest, n, resamples)


def change_of_runs(
    make: Callable[[Any], Gram], x: Sequence[Sequence[Any]], y: Sequence[Sequence[Any]], seed: int = 0,
    draws: int = DRAWS,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:  # fmt: skip
    """Distances of the runs of two systems, and how their mean difference moves when prompts are drawn again.

    Args:
        make: clips -> Gram.
        x, y: trainings x noises -> clips of the same prompts, as in ``distance_change``.
        seed, draws: of the resampling.

    Returns:
        Distances ``(trainings, noises)`` of either system, and the bootstrap variance of the difference of their means.
    """
    flat = [[clips for row in runs for clips in row] for runs in (x, y)]
    change, n = _change(make, *flat)
    ones = np.ones(n)
    first, second = (np.array([[make(clips).distance(ones) for clips in row] for row in runs]) for runs in (x, y))
    return first, second, float(_drawn(change, n, seed, draws).var(ddof=1))


_BOOTSTRAP, _SWAPS = 0, 1  # keep the two streams of random numbers apart


def _change(
    make: Callable[[Any], Gram], xs: Sequence[Any], ys: Sequence[Any]
) -> tuple[Callable[..., float], int]:
    """Mean distance of the runs ``xs`` minus that of ``ys``, of prompts taken so many times; and how many there are."""
    runs = [clips if isinstance(clips, list) else embeddings64(clips) for clips in (*xs, *ys)]
    n = len(runs[0])
    if odd := [len(clips) for clips in runs if len(clips) != n]:
        raise ValueError(f"difference: {n} and {odd[0]} clips: systems need the same prompts")
    # one Gram for all runs: MAD finds its cells from what it is given, and the runs must share them
    lists = any(isinstance(clips, list) for clips in runs)
    both = make([clip for clips in runs for clip in clips] if lists else np.concatenate(runs))
    none = np.zeros(n)

    def change(counts: NDArray[np.float64], other: NDArray[np.float64] | None = None) -> float:
        """With ``other``, the clips of two runs mix: the first run of each side, taken so many times and so many."""
        if other is not None:
            return both.distance(np.concatenate([counts, other])) - both.distance(np.concatenate([other, counts]))
        of = [both.distance(np.concatenate([counts if j == k else none for j in range(len(runs))]))
              for k in range(len(runs))]  # fmt: skip
        return float(np.mean(of[: len(xs)]) - np.mean(of[len(xs) :]))

    return change, n


def _drawn(change: Callable[..., float], n: int, seed: int, draws: int) -> NDArray[np.float64]:
    """``change`` of prompts drawn with replacement; the k-th draw is the same, however many are made."""
    rng = np.random.default_rng([seed, n, _BOOTSTRAP])
    found = np.empty(draws)
    for b in range(draws):
        counts = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        while np.count_nonzero(counts) < 2:  # one clip alone has no distance; this happens with a handful of prompts
            counts = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        found[b] = change(counts)
    return found


def quantile_error(values: NDArray[np.float64], q: float) -> float:
    """Half the 95 % interval of a quantile of B draws, by order statistics: ranks B q +- 1.96 sqrt(B q (1 - q))."""
    count = len(values)
    off = float(stats.norm.ppf(0.975)) * np.sqrt(count * q * (1 - q))
    ranks = np.clip([(count * q - off) / count, (count * q + off) / count], 0, 1)
    low, high = np.quantile(values, ranks)
    return float(high - low) / 2


def real_floor(
    distance: Callable[[Any, Any], float],
    reference: Any,
    n: int,
    repeats: int = 20,
    seed: int = 0,
    alpha: float = 0.05,
) -> Floor:
    """Distance of n random reference clips to the remaining ones, over ``repeats`` random halvings.

    Args:
        distance: (held-out ``(n, d)``, rest ``(m, d)``) -> distance, for instance ``fad``.
        reference: reference embeddings ``(N, d)``, or a list of the windows of each clip, of which ``distance`` then
            gets lists; N must leave at least 2 clips for the rest.
        n: clips held out, as many as a system has.
    """
    windowed = isinstance(reference, list)
    array = reference if windowed else embeddings64(reference, "reference embeddings")
    count = len(array)
    if count - n < 2:
        raise ValueError(f"floor: {count} reference clips cannot hold out {n}: use a larger reference")

    def pick(index: np.ndarray) -> Any:
        return [array[i] for i in index] if windowed else array[index]

    values = np.empty(repeats)
    for k in range(repeats):
        order = np.random.default_rng([seed, k]).permutation(count)
        values[k] = distance(pick(order[:n]), pick(order[n:]))
    low, high = np.quantile(values, [alpha / 2, 1 - alpha / 2])
    return Floor(float(values.mean()), float(low), float(high), n, count - n, repeats)
