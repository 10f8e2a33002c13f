"""Values and embeddings as float64 arrays: the one conversion every measure starts with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def array64(x: Any) -> Array:
    """A float64 array of any shape from numbers, an array, or tensors of any type on any device (and lists of them)."""
    if hasattr(x, "detach"):
        # numpy knows no bfloat16, so the tensor is widened first
        return np.asarray(x.detach().cpu().double().numpy(), dtype=np.float64)
    if isinstance(x, list | tuple) and any(hasattr(row, "detach") for row in x):
        return np.asarray([array64(row) for row in x], dtype=np.float64)
    return np.asarray(x, dtype=np.float64)


def embeddings64(x: Any, name: str = "embeddings", least: int = 2) -> Array:
    """A finite float64 matrix ``(n, d)`` from a numpy array or a tensor on any device.

    Args:
        x: embeddings ``(n, d)``.
        name: what to call them in an error.
        least: smallest n the caller can use; a covariance needs 2.
    """
    array = array64(x)
    if array.ndim != 2:
        raise ValueError(f"{name}: expected a matrix (n, d), got shape {array.shape}")
    if array.shape[0] < least:
        raise ValueError(f"{name}: n = {array.shape[0]} clips, this measure needs at least {least}")
    if not np.isfinite(array).all():
        bad = np.flatnonzero(~np.isfinite(array).all(axis=1))[:5].tolist()
        raise ValueError(f"{name}: non-finite values in rows {bad}: leave these clips out or render them again")
    return array


def unit_rows(x: Any) -> Array:
    """Rows scaled to length one ``(n, d)``; a zero row stays zero."""
    array = embeddings64(x, least=1)
    norm = np.linalg.norm(array, axis=1, keepdims=True)
    return array / np.where(norm == 0, 1.0, norm)
