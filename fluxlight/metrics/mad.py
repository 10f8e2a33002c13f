"""MAUVE audio divergence (MAD): -ln MAUVE of two sets of embeddings, written from the definition of MAUVE.

MAUVE (Pillutla et al., arXiv 2102.01454): quantise both samples with one k-means, draw the divergence curve
(exp(-c KL(Q|R)), exp(-c KL(P|R))) over the mixtures R = l P + (1 - l) Q, and take the area below it; 1 means that both
histograms agree. c = 5 and n / 10 clusters are that paper's; the smoothing is its authors' later advice (add 1/2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluxlight.metrics.arrays import Array, array64, embeddings64

SCALING, EXPLAINED, POINTS = 5.0, 0.9, 99


def _cells(both: Array, clusters: int, seed: int) -> NDArray[np.int64]:
    """Cell of each row ``(n + m, d)`` under one k-means of all rows, whatever their order."""
    from scipy.cluster.vq import kmeans2

    # equal order gives equal k-means starts; sorting makes the cells independent of the order of clips
    order = np.lexsort(both.T[::-1])
    rows = both[order] - both.mean(axis=0)
    _, values, axes = np.linalg.svd(rows, full_matrices=False)
    # as many principal axes as explain 90 % of the variance, as in the definition
    keep = int(np.searchsorted(np.cumsum(values**2) / (values**2).sum(), EXPLAINED)) + 1 if values.any() else 1
    found = np.empty(len(both), dtype=np.int64)
    found[order] = kmeans2(rows @ axes[:keep].T, clusters, minit="++", seed=np.random.default_rng(seed), iter=50)[1]
    return found


def mauve(p: Any, q: Any, scaling: float = SCALING) -> float:
    """Area below the divergence curve of two histograms ``(k,)`` without empty cells; 1 when they are equal."""
    p, q = array64(p), array64(q)
    weights = np.linspace(0, 1, POINTS + 2)[1:-1, None]
    mixture = weights * p + (1 - weights) * q
    x = np.exp(-scaling * (q * np.log(q / mixture)).sum(axis=1))
    y = np.exp(-scaling * (p * np.log(p / mixture)).sum(axis=1))
    # the curve starts on one axis and ends on the other; x falls while the mixture moves from q to p
    x, y = np.concatenate([[1.0], x, [0.0]]), np.concatenate([[0.0], y, [1.0]])
    return float(np.sum((x[:-1] - x[1:]) * (y[:-1] + y[1:]) / 2))


class MauveGram:
    """MAD of any resample of clips ``(n, d)`` to reference embeddings ``(m, d)``; the cells are found once.

    Args:
        x: embeddings of the clips.
        reference: embeddings of the reference.
        clusters: cells of the quantisation, a tenth of the smaller sample by default (at least 2).
        seed: of the k-means.
    """

    def __init__(self, x: Any, reference: Any, clusters: int | None = None, seed: int = 0) -> None:
        x, y = embeddings64(x), embeddings64(reference, "reference embeddings")
        if x.shape[1] != y.shape[1]:
            raise ValueError(f"MAD: clips have {x.shape[1]} dimensions, reference {y.shape[1]}: use one embedder")
        self.n = len(x)
        self._count = max(2, min(len(x), len(y)) // 10) if clusters is None else clusters
        cells = _cells(np.concatenate([x, y]), self._count, seed)
        self._own, self._reference = cells[: self.n], self._shares(np.bincount(cells[self.n :], minlength=self._count))

    def _shares(self, counts: NDArray[Any]) -> Array:
        smooth = counts + 0.5
        return smooth / smooth.sum()

    def distance(self, counts: Any | None = None) -> float:
        """MAD when clip i is taken ``counts[i]`` times ``(n,)``."""
        w = np.ones(self.n) if counts is None else array64(counts)
        own = self._shares(np.bincount(self._own, weights=w, minlength=self._count))
        return -float(np.log(min(mauve(own, self._reference), 1.0)))


def mad(x: Any, y: Any, clusters: int | None = None, seed: int = 0) -> float:
    """MAD of embeddings ``(n, d)`` to reference embeddings ``(m, d)``; 0 when they fill the same cells alike."""
    return MauveGram(x, y, clusters, seed).distance()
