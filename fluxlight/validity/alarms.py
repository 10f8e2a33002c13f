"""Alarms: how often the tests of a table cry wolf where nothing differs, and how often they see a known damage.

A trial is one comparison of two rows as a table makes it: every measure with its p, and Holm over the family. False
alarms come from A/A trials (the same model under other noise; other halves of the same data), power from A/B trials
with one damage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from fluxlight.evaluation.differences import comparisons
from fluxlight.evaluation.measure import PerClip
from fluxlight.evaluation.sets import SetMeasure
from fluxlight.measures import better

ALPHA = 0.05
Pair = tuple[PerClip, PerClip]


def mixed(rows: Sequence[PerClip], choice: np.ndarray, index: np.ndarray, name: str) -> PerClip:
    """A row whose clip for prompt ``index[k]`` is that of ``rows[choice[k]]``."""
    taken = [row.take(index) for row in rows]

    def pick(table: Mapping[str, Any], of: Any) -> dict[str, Any]:
        return {key: np.stack([of(taken[c])[key][k] for k, c in enumerate(choice)]) for key in table}

    first = taken[0]
    scores, embeddings = pick(first.scores, lambda r: r.scores), pick(first.embeddings, lambda r: r.embeddings)
    return PerClip(name, first.prompts, scores, embeddings, first.text)


def noise_pair(seeds: Sequence[PerClip], n: int, rng: np.random.Generator, other: Sequence[PerClip] = ()) -> Pair:
    """Two rows of one model on n random prompts, each prompt under two different noise seeds dealt at random.

    Args:
        seeds: the model under K >= 2 noise seeds, the same prompts in each.
        n: prompts.
        rng: deals prompts and seeds.
        other: the same clips damaged, in the same order: the second row is then taken from these.
    """
    if len(seeds) < 2:
        raise ValueError(f"alarms: {len(seeds)} noise seeds of the model, at least 2 are needed")
    _enough(seeds[0], n)
    index = rng.choice(len(seeds[0].prompts), n, replace=False)
    dealt = np.array([rng.permutation(len(seeds))[:2] for _ in range(n)])
    return mixed(seeds, dealt[:, 0], index, "a"), mixed(other or seeds, dealt[:, 1], index, "b")


def halves_pair(data: PerClip, n: int, rng: np.random.Generator, other: PerClip | None = None) -> Pair:
    """Two rows of n different clips each, drawn from one set of clips; the second damaged if ``other`` holds damage."""
    _enough(data, 2 * n)
    index = rng.permutation(len(data.prompts))[: 2 * n]
    return data.take(index[:n], "a"), (other or data).take(index[n:], "b")


def _enough(row: PerClip, n: int) -> None:
    if len(row.prompts) < n:
        raise ValueError(f"alarms: {n} clips are wanted, {row.system} has {len(row.prompts)}: lower --n")


def trial(pair: Pair, measures: Mapping[str, SetMeasure], resamples: int, seed: int) -> list[dict[str, Any]]:
    """The comparisons of a table of these two rows: measure, ``p``, ``p_holm``, and whether b is the worse one."""
    # a trial reads p alone, so its intervals are not drawn
    found = comparisons(pair, [("b", "a")], measures, resamples, seed, draws=2)
    return [
        {
            "metric": row["metric"], "p": row["p"], "p_holm": row["p_holm"],
            "worse": (row["difference"] > 0) == (better(row["metric"]) == "lower"),
        }
        for row in found
    ]  # fmt: skip


@dataclass(frozen=True)
class Rate:
    """A share of trials with its 95 % Clopper-Pearson interval."""

    share: float
    low: float
    high: float
    trials: int


def rate(hits: int, trials: int) -> Rate:
    """``hits`` of ``trials`` as a rate."""
    low = 0.0 if hits == 0 else float(stats.beta.ppf(0.025, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(stats.beta.ppf(0.975, hits + 1, trials - hits))
    return Rate(hits / trials, low, high, trials)


def false_alarms(trials: Sequence[Sequence[Mapping[str, Any]]], alpha: float = ALPHA) -> dict[str, Rate]:
    """Alarm rates of A/A trials: of each measure by its own p, and of the whole ``family`` by Holm's.

    A family alarms when any of its measures does; that is the rate that a reader of a table is exposed to.
    """
    if not trials:
        raise ValueError("alarms: no trial was made")
    found = {"family": rate(sum(any(row["p_holm"] < alpha for row in t) for t in trials), len(trials))}
    for k, row in enumerate(trials[0]):
        found[row["metric"]] = rate(sum(t[k]["p"] < alpha for t in trials), len(trials))
    return found


def power(trials: Sequence[Sequence[Mapping[str, Any]]], alpha: float = ALPHA) -> dict[str, Rate]:
    """How often each measure sees a damage in a table: Holm's p below alpha, and the damaged row the worse one.

    Diversity has no worse side: there it counts that a difference was seen.
    """
    if not trials:
        raise ValueError("power: no trial was made")

    def seen(row: Mapping[str, Any]) -> bool:
        return row["p_holm"] < alpha and (row["worse"] or row["metric"] == "diversity")

    found = {"family": rate(sum(any(map(seen, t)) for t in trials), len(trials))}
    for k, row in enumerate(trials[0]):
        found[row["metric"]] = rate(sum(seen(t[k]) for t in trials), len(trials))
    return found
