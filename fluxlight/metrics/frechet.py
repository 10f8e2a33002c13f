"""Frechet audio distance (FAD): between Gaussians, between samples, and fast under resampling.

FAD = |mu_x - mu_y|^2 + tr C_x + tr C_y - 2 tr (C_x C_y)^(1/2), mean and covariance with n - 1 (FACTS section 9).

The last trace is the only costly term. With centred rows A (n, d), C_x = A'A / (n - 1), it is the sum of the square
roots of the eigenvalues of A C_y A' / (n - 1): an n x n problem, smaller than d x d for a hundred clips, and its Gram
matrix X C_y X' is computed once for all resamples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fluxlight.metrics.arrays import Array, array64, embeddings64


def moments(x: Any) -> tuple[Array, Array]:
    """Mean ``(d,)`` and covariance ``(d, d)`` with n - 1 of embeddings ``(n, d)``."""
    array = embeddings64(x)
    mean = array.mean(axis=0)
    centred = array - mean
    return mean, centred.T @ centred / (array.shape[0] - 1)


def root_trace(matrix: Array) -> float:
    """Trace of the root of a positive semi-definite matrix ``(n, n)``.

    Eigenvalues that are 0 but for rounding (of either sign) are dropped: the root would make 1e-8 of each 1e-16.
    """
    values = np.linalg.eigvalsh(matrix)
    noise = values[-1] * matrix.shape[0] * np.finfo(np.float64).eps
    return float(np.sqrt(values[values > noise]).sum())


def frechet_distance(mean_x: Any, cov_x: Any, mean_y: Any, cov_y: Any) -> float:
    """Frechet distance of two Gaussians, from means ``(d,)`` and covariances ``(d, d)``.

    tr (C_x C_y)^(1/2) = sum of sqrt of the eigenvalues of C_x^(1/2) C_y C_x^(1/2), symmetric and so free of the complex
    numbers of a general matrix root.
    """
    mean_x, cov_x, mean_y, cov_y = (array64(value) for value in (mean_x, cov_x, mean_y, cov_y))
    if mean_x.shape != mean_y.shape:
        raise ValueError(f"FAD: embeddings of {mean_x.shape} and {mean_y.shape} dimensions: use one embedder")
    values, vectors = np.linalg.eigh(cov_x)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = root_trace(root @ cov_y @ root)
    return float(max(np.sum((mean_x - mean_y) ** 2) + np.trace(cov_x) + np.trace(cov_y) - 2 * cross, 0.0))


class FrechetGram:
    """FAD of any resample of clips ``(n, d)`` to a fixed reference, in n x n matrices.

    Args:
        x: embeddings ``(n, d)``, one row per clip (or the rows of two systems stacked, for permutation tests).
        mean: reference mean ``(d,)``.
        cov: reference covariance ``(d, d)``.
    """

    def __init__(self, x: Any, mean: Any, cov: Any) -> None:
        array = embeddings64(x)
        mean, cov = array64(mean), array64(cov)
        if mean.shape != (array.shape[1],):
            raise ValueError(f"FAD: clips have {array.shape[1]} dimensions, reference {mean.shape}: use one embedder")
        offset = array - mean  # every term is a function of offsets, which keeps rounding errors small
        self.n = array.shape[0]
        self._linear = offset @ offset.T
        self._weighted = offset @ cov @ offset.T
        self._trace = float(np.trace(cov))

    def distance(self, counts: Any | None = None) -> float:
        """FAD when clip i is taken ``counts[i]`` times ``(n,)``; every clip once by default."""
        counts = np.ones(self.n) if counts is None else array64(counts)
        total = counts.sum()
        if total < 2:
            raise ValueError(f"FAD: {total:g} clips, a covariance needs at least 2")
        used = np.flatnonzero(counts)
        w = counts[used]
        linear, gram = self._linear[np.ix_(used, used)], self._weighted[np.ix_(used, used)]
        shift = float(w @ linear @ w) / total**2
        trace = (float(w @ np.diag(linear)) - total * shift) / (total - 1)
        row = gram @ w / total
        centred = gram - row[:, None] - row[None, :] + (w @ row) / total
        scale = np.sqrt(w / (total - 1))  # a row taken k times counts as one row of length sqrt(k)
        cross = root_trace(centred * scale[:, None] * scale[None, :])
        return float(max(shift + trace + self._trace - 2 * cross, 0.0))


def fad(x: Any, y: Any) -> float:
    """FAD of embeddings ``(n, d)`` to reference embeddings ``(m, d)``, one embedding per clip (FACTS section 9)."""
    return fad_to(x, *moments(embeddings64(y, "reference embeddings")))


def fad_to(x: Any, mean: Any, cov: Any) -> float:
    """FAD of embeddings ``(n, d)`` to a reference's mean ``(d,)`` and covariance ``(d, d)``."""
    array = embeddings64(x)
    if array.shape[0] <= array.shape[1]:
        return FrechetGram(array, mean, cov).distance()
    return frechet_distance(*moments(array), mean, cov)
