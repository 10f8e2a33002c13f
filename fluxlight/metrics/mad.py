"""MAUVE audio divergence (MAD): -ln MAUVE of two sets of embeddings, written from the definition of MAUVE.

MAUVE (Pillutla et al., arXiv 2102.01454): quantise both samples with one k-means, draw the divergence curve
(exp(-c KL(Q|R)), exp(-c KL(P|R))) over the mixtures R = l P + (1 - l) Q, and take the area below it; 1 means that both
histograms agree. c = 5 and n / 10 clusters are that paper's; the smoothing is its authors' later advice (add 1/2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fluxlight.metrics.arrays import Array, embeddings64

SCALING, EXPLAINED, POINTS = 5.0, 0.9, 99


def _histograms(x: Array, y: Array, clusters: int, seed: int) -> tuple[Array, Array]:
    """Smoothed shares of the common k-means cells ``(k,)`` of both samples."""
    from scipy.cluster.vq import kmeans2

    both = np.concatenate([x, y])
    both = both - both.mean(axis=0)
    _, values, axes = np.linalg.svd(both, full_matrices=False)
    # as many principal axes as explain 90 % of the variance, as in the definition
    keep = int(np.searchsorted(np.cumsum(values**2) / (values**2).sum(), EXPLAINED)) + 1 if values.any() else 1
    points = both @ axes[:keep].T
    _, cell = kmeans2(points, clusters, minit="++", seed=np.random.default_rng(seed), iter=50)
    counts = [np.bincount(part, minlength=clusters) + 0.5 for part in (cell[: len(x)], cell[len(x) :])]
    return counts[0] / counts[0].sum(), counts[1] / counts[1].sum()


def mauve(p: Any, q: Any, scaling: float = SCALING) -> float:
    """Area below the divergence curve of two histograms ``(k,)`` without empty cells; 1 when they are equal."""
    p, q = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    weights = np.linspace(0, 1, POINTS + 2)[1:-1, None]
    mixture = weights * p + (1 - weights) * q
    x = np.exp(-scaling * (q * np.log(q / mixture)).sum(axis=1))
    y = np.exp(-scaling * (p * np.log(p / mixture)).sum(axis=1))
    # the curve starts on one axis and ends on the other; x falls while the mixture moves from q to p
    x, y = np.concatenate([[1.0], x, [0.0]]), np.concatenate([[0.0], y, [1.0]])
    return float(np.sum((x[:-1] - x[1:]) * (y[:-1] + y[1:]) / 2))


def mad(x: Any, y: Any, clusters: int | None = None, seed: int = 0) -> float:
    """MAD of embeddings ``(n, d)`` to reference embeddings ``(m, d)``; 0 when they fill the same cells alike.

    Args:
        x, y: embeddings.
        clusters: cells of the quantisation, a tenth of the smaller sample by default (at least 2).
        seed: of the k-means.
    """
    x, y = embeddings64(x), embeddings64(y, "reference embeddings")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"MAD: clips have {x.shape[1]} dimensions, reference {y.shape[1]}: use one embedder")
    # equal order gives equal k-means starts; sorting the rows makes the value independent of the order of clips
    x, y = x[np.lexsort(x.T[::-1])], y[np.lexsort(y.T[::-1])]
    cells = max(2, min(len(x), len(y)) // 10) if clusters is None else clusters
    return -float(np.log(min(mauve(*_histograms(x, y, cells, seed)), 1.0)))
