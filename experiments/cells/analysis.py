"""Analysis: what a set of cells says beyond its table: slopes, variance components, intervals over seeds and prompts.

Plain functions of arrays; rows are cells or seeds, columns are prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import stats

from fluxlight.metrics.crossed import crossed
from fluxlight.metrics.statistics import slope, t_interval


def sd_interval(values: Sequence[float], alpha: float = 0.05) -> dict[str, float]:
    """Standard deviation of k values with its chi-square interval, which supposes that they are normal."""
    x = np.asarray(values, dtype=np.float64)
    if x.size < 2:
        raise ValueError(f"standard deviation: {x.size} values, at least 2 are needed")
    sd, df = float(x.std(ddof=1)), x.size - 1
    low, high = (sd * float(np.sqrt(df / stats.chi2.ppf(q, df))) for q in (1 - alpha / 2, alpha / 2))
    return {"sd": sd, "low": low, "high": high, "k": x.size, "range": float(np.ptp(x))}


def components(values: Any) -> dict[str, Any]:
    """Variance components of ``values`` ``(k, n)``: k seeds, n prompts, y = mean + seed + prompt + rest.

    Two-way analysis of variance without repetition. ``seed`` is what moves all prompts together; ``rest`` is what a
    seed does to one prompt. Negative estimates are 0. ``p`` is of the F test that no seed moves the mean.

    Returns:
        ``seed``, ``prompt``, ``rest`` (variances), ``p``, ``means`` (per seed), ``of_mean`` (the observed standard
        deviation of the k means, with interval) and ``expected`` (what ``rest`` alone would give it).
    """
    y = np.asarray(values, dtype=np.float64)
    if y.ndim != 2 or min(y.shape) < 2:
        raise ValueError(f"variance components: values of shape {y.shape}, at least 2 seeds and 2 prompts are needed")
    k, n = y.shape
    seeds, prompts = y.mean(axis=1), y.mean(axis=0)
    ms_seed = n * seeds.var(ddof=1)
    ms_prompt = k * prompts.var(ddof=1)
    rest = y - seeds[:, None] - prompts[None] + y.mean()
    ms_rest = float((rest**2).sum() / ((k - 1) * (n - 1)))
    p = float(stats.f.sf(ms_seed / ms_rest, k - 1, (k - 1) * (n - 1))) if ms_rest > 0 else 1.0
    return {
        "seed": max(0.0, float(ms_seed - ms_rest) / n),
        "prompt": max(0.0, float(ms_prompt - ms_rest) / k),
        "rest": ms_rest,
        "p": p,
        "means": [float(v) for v in seeds],
        "of_mean": sd_interval(seeds.tolist()),
        "expected": float(np.sqrt(ms_rest / n)),
        "n": n,
    }


def over_seeds(values: Any, against: Any | None = None) -> dict[str, Any]:
    """Mean of ``values`` ``(k, n)`` with its interval over training seeds and prompts, crossed.

    Args:
        values: k training seeds, n prompts.
        against: the same prompts of another setting; then it is the difference. Equally many seeds are paired.

    Returns:
        ``mean``, ``low``, ``high``, ``se``, ``seeds``, ``n``, and ``parts`` of the variance. One seed cannot tell how
        much seeds vary: the interval is then over prompts alone and too narrow, and ``seeds`` says so.
    """
    given = [values] if against is None else [values, against]
    rows = [np.atleast_2d(np.asarray(value, dtype=np.float64)) for value in given]
    if len({row.shape[1] for row in rows}) > 1:
        raise ValueError(f"seeds: {rows[0].shape[1]} against {rows[1].shape[1]} prompts: both need the same")
    means = [row.mean(axis=0) for row in rows]
    each = means[0] - means[1] if len(rows) > 1 else means[0]
    runs = [row.mean(axis=1)[:, None] for row in rows]
    found = crossed(runs[0], float(each.var(ddof=1)) / each.size, each.size, runs[1] if len(runs) > 1 else None)
    return {"mean": found.value, "low": found.low, "high": found.high, "se": found.se, "parts": found.parts,
            "seeds": min(found.training_seeds), "n": found.n}  # fmt: skip


def per_clip(scores: Mapping[str, Any], cells: Sequence[str], metric: str) -> np.ndarray:
    """Values ``(cells, prompts)`` of a measure out of scores.json."""
    return np.array([[row[cell][metric] for row in scores.values()] for cell in cells], dtype=np.float64)


def slopes(table: Mapping[str, Any], scores: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Slope of every per-clip measure over the score asked for, for each group of cells."""
    found: dict[str, Any] = {}
    for group, cells in groups.items():
        settings = {cell: table["systems"][cell]["info"].get("score") for cell in cells}
        cells = sorted((cell for cell in cells if settings[cell] is not None), key=lambda cell: settings[cell])
        if len({settings[cell] for cell in cells}) < 2:
            continue
        x = [float(settings[cell]) for cell in cells]
        means = {m: [asdict(t_interval(row)) for row in per_clip(scores, cells, m)] for m in table["metrics"]}
        lines = {m: asdict(slope(x, per_clip(scores, cells, m))) for m in table["metrics"]}
        found[group] = {"settings": x, "cells": list(cells), "means": means, "slopes": lines}
    return found


def seed_study(
    table: Mapping[str, Any], scores: Mapping[str, Any], groups: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Variance components of every per-clip measure, and the spread of every set distance, for each group of seeds."""
    found: dict[str, Any] = {}
    for group, cells in groups.items():
        if len(cells) < 2:
            continue
        systems = [table["systems"][cell] for cell in cells]
        distances = {
            name: sd_interval([system["distances"][name]["value"] for system in systems])
            for name in systems[0].get("distances", {})
        }
        measures = {m: components(per_clip(scores, cells, m)) for m in table["metrics"]}
        found[group] = {"cells": list(cells), "scores": measures, "distances": distances}
    return found
