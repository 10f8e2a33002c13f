"""Differences: every pair of rows under every measure, and what a row with several runs says of itself. Pure.

A row with one run is compared over prompts. One with several, trainings x noises, is compared over all three
(`fluxlight.metrics.crossed`); every comparison says how many of each it stands on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fluxlight.evaluation.measure import PerClip
from fluxlight.evaluation.sets import SetMeasure
from fluxlight.metrics.crossed import Crossed, crossed
from fluxlight.metrics.resampling import DRAWS, change_of_runs, distance_change, jackknife
from fluxlight.metrics.statistics import equivalence, holm, paired, seen_with, t_interval


def comparisons(
    rows: Sequence[PerClip], pairs: Sequence[tuple[str, str]], measures: Mapping[str, SetMeasure] | None = None,
    resamples: int = 1000, seed: int = 0, margins: Mapping[str, float] | None = None, draws: int = DRAWS,
) -> list[dict[str, Any]]:  # fmt: skip
    """Every measure of every pair of rows with its ``p``, and ``p_holm`` over all of them as one family.

    Args:
        rows: systems on the same prompts.
        pairs: (row, other).
        measures: of whole rows, beside the scores of each clip.
        resamples: permutations of a measure of whole rows.
        seed: of the resampling.
        margins: measure -> largest difference that counts as none; adds ``margin`` and the verdict ``equivalence``.
        draws: bootstrap resamples of a measure of whole rows; the same in every table that is read.
    """
    by_name = {row.system: row for row in rows}
    found: list[dict[str, Any]] = []
    for name, other in pairs:
        one, two = by_name[name].grid(), by_name[other].grid()
        noises = min(len(one[0]), len(two[0]))  # rows are compared under the noise that both have
        one, two = [row[:noises] for row in one], [row[:noises] for row in two]
        head = {"system": name, "against": other}
        drawn = {"noise_seeds": noises, "training_seeds": [len(one), len(two)]}
        single = len(one) == len(two) == noises == 1
        for metric in rows[0].scores:
            said = _of_scores(one, two, metric) if not single else _paired(one[0][0], two[0][0], metric)
            found.append({**head, "metric": metric, **drawn, **said})
        for metric, measure in (measures or {}).items():
            if single:
                pair = (measure.clips(one[0][0]), measure.clips(two[0][0]))
                change = distance_change(measure.make, *pair, resamples=resamples, seed=seed, draws=draws)
                said = {"test": "swap permutation", **asdict(change)}
            else:
                said = _of_sets(one, two, measure, seed, draws)
            found.append({**head, "metric": metric, **drawn, **said})
    adjusted = holm({str(k): row["p"] for k, row in enumerate(found)})
    for k, row_of_test in enumerate(found):
        row_of_test["p_holm"] = adjusted[str(k)]
        if (margin := (margins or {}).get(row_of_test["metric"])) is not None:
            row_of_test |= {"margin": margin, "equivalence": unchanged(row_of_test, margin)}
    return found


def unchanged(comparison: Mapping[str, Any], margin: float) -> str:
    """The verdict of `equivalence` on a comparison of a table."""
    c = comparison
    return equivalence((c["low"], c["high"]), (c["low90"], c["high90"]), margin, c["monte_carlo"])


def excludes_zero(comparison: Mapping[str, Any]) -> int:
    """The side of 0 on which the 95 % interval lies, by more than its Monte-Carlo error: 1, -1, or 0 for neither."""
    error = comparison["monte_carlo"]
    return int(comparison["low"] > error) - int(comparison["high"] < -error)


def _paired(one: PerClip, two: PerClip, metric: str) -> dict[str, Any]:
    test = paired(one.scores[metric], two.scores[metric]).as_dict()
    return {"test": "paired t", "p": test["p_t"], "monte_carlo": 0.0, **test}


Grid = Sequence[Sequence[PerClip]]


def _of_scores(one: Grid, two: Grid, metric: str) -> dict[str, Any]:
    x, y = values(one, metric), values(two, metric)
    delta = x.mean((0, 1)) - y.mean((0, 1))
    found = crossed(x.mean(2), float(delta.var(ddof=1)) / delta.size, delta.size, y.mean(2))
    wins, losses = int((delta > 0).sum()), int((delta < 0).sum())
    return {**_said(found), "wins": wins, "losses": losses, "ties": delta.size - wins - losses}


def _of_sets(one: Grid, two: Grid, measure: SetMeasure, seed: int, draws: int) -> dict[str, Any]:
    x, y = ([[measure.clips(run) for run in row] for row in grid] for grid in (one, two))
    first, second, variance = change_of_runs(measure.make, x, y, seed, draws)
    return _said(crossed(first, variance, len(one[0][0].prompts), second), draws)


def _said(found: Crossed, draws: int = 0) -> dict[str, Any]:
    said = asdict(found)
    # the part of prompts is drawn ``draws`` times: that moves its standard error by 1 / sqrt(2 draws) of it, in 95 % by
    # twice as much; 0 for a closed form
    share = (found.parts["prompts"] or 0.0) / found.se**2 if found.se else 0.0
    error = share * (found.high - found.low) / 2 * 1.96 / (2 * draws) ** 0.5 if draws else 0.0
    return {"test": "crossed t", "difference": said.pop("value"), "smallest": seen_with(found.se, found.df),
            "monte_carlo": error, **said}  # fmt: skip


def values(grid: Grid, metric: str) -> np.ndarray:
    """A score of every clip of every run, ``(trainings, noises, prompts)``."""
    return np.array([[run.scores[metric] for run in row] for row in grid], dtype=np.float64)


def score_of(row: PerClip, metric: str) -> dict[str, Any]:
    """Mean of a score with its interval, over prompts and over all runs of the row."""
    grid = row.grid()
    said = asdict(t_interval(row.scores[metric]))
    if len(grid) == len(grid[0]) == 1:
        return said
    x = values(grid, metric)
    each = x.mean((0, 1))
    found = crossed(x.mean(2), float(each.var(ddof=1)) / each.size, each.size)
    return {"mean": found.value, "low": found.low, "high": found.high, "sd": float(each.std(ddof=1)), "n": each.size,
            "parts": found.parts}  # fmt: skip


def distance_of(row: PerClip, measure: SetMeasure) -> dict[str, Any]:
    """A measure of a whole row with its interval: the mean over its runs, jackknifed over prompts."""
    grid = row.grid()
    found = [[jackknife(measure.make(measure.clips(run))) for run in runs] for runs in grid]
    if len(grid) == len(grid[0]) == 1:
        return asdict(found[0][0])
    # the runs share their prompts: their errors may all point one way
    se = float(np.mean([one.se for runs in found for one in runs]))
    of_all = crossed([[one.value for one in runs] for runs in found], se**2, found[0][0].n)
    return {"value": of_all.value, "low": of_all.low, "high": of_all.high, "se": of_all.se, "n": of_all.n,
            "parts": of_all.parts}  # fmt: skip
