"""Diversity: how far apart a system's clips lie, overall and for one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fluxlight.metrics.arrays import array64, embeddings64, unit_rows


class DiversityGram:
    """Diversity of any resample of clips ``(n, d)``; a clip is never compared with its own copy."""

    def __init__(self, x: Any) -> None:
        rows = unit_rows(embeddings64(x))
        self.n = rows.shape[0]
        self._cosine = rows @ rows.T

    def distance(self, counts: Any | None = None) -> float:
        """Mean pairwise cosine distance when clip i is taken ``counts[i]`` times ``(n,)``."""
        w = np.ones(self.n) if counts is None else array64(counts)
        pairs = w.sum() ** 2 - w @ w
        if pairs <= 0:
            raise ValueError("diversity: needs at least 2 different clips")
        return float(1 - (w @ self._cosine @ w - (w * w) @ np.diag(self._cosine)) / pairs)


def diversity(x: Any) -> float:
    """Mean pairwise cosine distance (1 - cosine) of embeddings ``(n, d)``; 0 when all clips are alike."""
    rows = unit_rows(embeddings64(x))
    n = rows.shape[0]
    total = rows.sum(axis=0)
    # the sum over all pairs of dot products is |sum of rows|^2; the diagonal is the sum of the squared lengths
    return float(1 - (total @ total - (rows * rows).sum()) / (n * (n - 1)))


def diversity_per_prompt(x: Any, prompts: Sequence[str]) -> float:
    """Mean over prompts of the diversity of the clips ``(n, d)`` made from that prompt; needs several per prompt."""
    rows = embeddings64(x)
    names = np.asarray(prompts)
    if len(names) != rows.shape[0]:
        raise ValueError(f"diversity: {rows.shape[0]} clips but {len(names)} prompts")
    groups = [rows[names == name] for name in dict.fromkeys(prompts)]
    values = [diversity(group) for group in groups if len(group) > 1]
    if not values:
        raise ValueError("diversity per prompt: every prompt has one clip, render at least 2 seeds of each")
    return float(np.mean(values))
