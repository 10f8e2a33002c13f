"""Embeddings as float64 arrays: the one conversion every measure starts with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def embeddings64(x: Any, name: str = "embeddings", least: int = 2) -> Array:
    """A finite float64 matrix ``(n, d)`` from a numpy array or a tensor on any device.

    Args:
        x: embeddings ``(n, d)``.
        name: what to call them in an error.
        least: smallest n the caller can use; a covariance needs 2.
    """
    if hasattr(x, "detach"):
        x = x.detach().cpu().numpy()
    array = np.asarray(x, dtype=np.float64)
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
