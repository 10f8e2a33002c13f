"""Resampling of set distances (FAD, KAD): jackknife of one, joint bootstrap and permutation of a difference, floor.

Resampling with replacement biases a single FAD upward, since repeated clips make the covariance look thinner. So one
FAD gets a jackknife, and only differences are bootstrapped: both systems lose the same prompts, and the bias of the
resamples is taken out by centring them on the observed difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import stats

from fluxlight.metrics.arrays import embeddings64


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
        p: permutation p: how often swapping the two systems' clips of random prompts makes as large a difference.
        smallest: smallest difference seen with 80 % power, 2.80 bootstrap standard errors.
        n: prompts.
        resamples: bootstrap resamples, and permutations.
    """

    difference: float
    low: float
    high: float
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
    make: Callable[[Any], Gram], x: Any, y: Any, resamples: int = 1000, seed: int = 0, alpha: float = 0.05
) -> DistanceChange:
    """Difference of the distances of two systems' clips on the same prompts.

    Args:
        make: clips -> Gram, for instance ``lambda e: FrechetGram(e, mean, cov)``.
        x: clips of the system, item i made from prompt i: embeddings ``(n, d)``, or a list of the windows of each.
        y: clips of the other, likewise.
        resamples: number of bootstrap resamples of prompts, and of random swaps.
        seed: of the resampling.
    """
    if not isinstance(x, list):
        x, y = embeddings64(x), embeddings64(y)
    n = len(x)
    if n != len(y):
        raise ValueError(f"difference: {n} and {len(y)} clips: systems need the same prompts")
    # one Gram for both rows: MAD finds its cells from what it is given, and the rows must share them
    both = make([*x, *y] if isinstance(x, list) else np.concatenate([x, y]))

    def change(counts: np.ndarray) -> float:
        none = np.zeros(n)
        return both.distance(np.concatenate([counts, none])) - both.distance(np.concatenate([none, counts]))

    observed = change(np.ones(n))
    rng = np.random.default_rng([seed, n, resamples])
    draws, swaps = np.empty(resamples), np.empty(resamples)
    for b in range(resamples):
        counts = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        while np.count_nonzero(counts) < 2:  # one clip alone has no distance; this happens with a handful of prompts
            counts = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        draws[b] = change(counts)
        keep = rng.integers(0, 2, n).astype(np.float64)
        swaps[b] = both.distance(np.concatenate([keep, 1 - keep])) - both.distance(np.concatenate([1 - keep, keep]))
    centred = draws - draws.mean()
    low, high = np.quantile(centred, [alpha / 2, 1 - alpha / 2])
    # + 1: the observed labelling is one of the permutations, which keeps the test exact
    p = (1 + int((np.abs(swaps) >= abs(observed) - 1e-12).sum())) / (resamples + 1)
    power = float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(0.8))
    smallest = power * float(draws.std(ddof=1))
    return DistanceChange(observed, observed + float(low), observed + float(high), p, smallest, n, resamples)


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
