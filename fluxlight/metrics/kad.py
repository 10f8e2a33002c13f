"""Kernel audio distance (KAD): an unbiased distance that is 0 in the mean when two samples agree, at any n.

KAD = 100 MMD^2 with k(x, y) = exp(-|x - y|^2 / (2 b^2)) and b = median pairwise distance of the reference (FACTS
section 9; the factor 100 is the usual one). Being unbiased it may come out slightly negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fluxlight.metrics.arrays import Array, array64, embeddings64

SCALE = 100.0


def squared_distances(x: Array, y: Array) -> Array:
    """Squared Euclidean distances ``(n, m)`` of rows ``(n, d)`` and ``(m, d)``."""
    return np.clip((x * x).sum(1)[:, None] + (y * y).sum(1)[None, :] - 2 * x @ y.T, 0, None)


def median_bandwidth(reference: Any) -> float:
    """Median distance over the pairs i < j of reference embeddings ``(m, d)``."""
    array = embeddings64(reference, "reference embeddings")
    upper = np.triu_indices(array.shape[0], 1)
    bandwidth = float(np.sqrt(np.median(squared_distances(array, array)[upper])))
    if bandwidth == 0:
        raise ValueError("KAD: more than half of the reference clips are identical, so the median bandwidth is 0")
    return bandwidth


class KernelGram:
    """KAD of any resample of clips ``(n, d)`` to reference embeddings ``(m, d)``; kernels are computed once."""

    def __init__(self, x: Any, reference: Any, bandwidth: float | None = None) -> None:
        x, y = embeddings64(x), embeddings64(reference, "reference embeddings")
        if x.shape[1] != y.shape[1]:
            raise ValueError(f"KAD: clips have {x.shape[1]} dimensions, reference {y.shape[1]}: use one embedder")
        self.bandwidth = median_bandwidth(y) if bandwidth is None else bandwidth
        gamma = 1 / (2 * self.bandwidth**2)
        self.n, m = x.shape[0], y.shape[0]
        self._own = np.exp(-gamma * squared_distances(x, x))
        np.fill_diagonal(self._own, 0.0)
        self._cross = np.exp(-gamma * squared_distances(x, y)).mean(axis=1)
        kernel = np.exp(-gamma * squared_distances(y, y))
        self._reference = float((kernel.sum() - np.trace(kernel)) / (m * (m - 1)))

    def distance(self, counts: Any | None = None) -> float:
        """KAD when clip i is taken ``counts[i]`` times ``(n,)``.

        A clip is never compared with its own copy, so a resample is as unbiased as the sample.
        """
        w = np.ones(self.n) if counts is None else array64(counts)
        total = w.sum()
        pairs = total**2 - (w * w).sum()
        if pairs <= 0:
            raise ValueError("KAD: needs at least 2 different clips")
        return float(SCALE * (w @ self._own @ w / pairs + self._reference - 2 * (w @ self._cross) / total))


def kad(x: Any, y: Any, bandwidth: float | None = None) -> float:
    """KAD of embeddings ``(n, d)`` to reference embeddings ``(m, d)``; default bandwidth: reference median."""
    return KernelGram(x, y, bandwidth).distance()
