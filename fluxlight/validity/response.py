"""Response: how a measure moves along a ladder, and whether it moves as it must. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fluxlight.evaluation.measure import PerClip
from fluxlight.evaluation.sets import SetMeasure
from fluxlight.measures import better
from fluxlight.metrics.resampling import DistanceChange, distance_change, jackknife
from fluxlight.metrics.statistics import Paired, paired, t_interval
from fluxlight.validity.damage import LADDERS, Ladder

UNSEEN = 0.25
"""A measure is flat while it stays within this share of its clean value's standard error (our choice)."""


@dataclass(frozen=True)
class Response:
    """A measure along a ladder.

    Attributes:
        measure: its name.
        values: on the clean clips, then on each step: the clean value and the change seen in the pair of rows.
        low, high: 95 % interval of the change from clean on each step, added to the clean value.
        shape: "flat"; "not seen" when the strongest step's interval holds the clean value; "rises" or "falls" on every
            step; the same "within noise" when the steps the other way are inside their intervals; or "not monotone".
        must: "worse", "flat" or "" (no demand).
        holds: True when ``shape`` is what it must be.
    """

    measure: str
    values: list[float]
    low: list[float]
    high: list[float]
    shape: str
    must: str
    holds: bool


def _kind(measure: str) -> str:
    # MAD counts cells of a few clips each: at a hundred clips it is too blunt to be asked for every step
    return "distance" if better(measure) == "lower" and measure != "mad" else measure.partition("_")[0]


def demand(ladder: Ladder, measure: str, protocol: str) -> str:
    """What a measure must do on a ladder: "worse", "flat" or nothing in particular."""
    if _kind(measure) in ladder.worse:
        return "worse"
    # captions do not touch the sound; a gain is taken out again by locked loudness only
    return "flat" if _kind(measure) in ladder.flat and (protocol == "locked" or ladder.apply is None) else ""


def shape_of(values: Sequence[float], against: Sequence[bool], scale: float, seen: bool = True) -> str:
    """The shape of a response.

    Args:
        values: clean, then each step.
        against: for each step, whether it is a move against the overall direction that its interval excludes from 0.
        scale: standard error of the clean value.
        seen: whether the interval of the strongest step's change excludes 0.
    """
    if max(abs(value - values[0]) for value in values) <= UNSEEN * scale:
        return "flat"
    if not seen:
        return "not seen"
    rising = values[-1] > values[0]
    wrong = [(b < a) if rising else (b > a) for a, b in itertools.pairwise(values)]
    if any(against):
        return "not monotone"
    return ("rises" if rising else "falls") + (" within noise" if any(wrong) else "")


def responses(
    name: str, rows: Sequence[PerClip], measures: Mapping[str, SetMeasure], protocol: str = "locked",
    resamples: int = 199, seed: int = 0,
) -> list[Response]:  # fmt: skip
    """Every measure along the ladder ``name``.

    Args:
        name: of the ladder.
        rows: the clean row, then one per step.
        measures: set measures, from ``fluxlight.evaluation.sets.set_measures``.
        protocol: loudness under which the rows were judged.
        resamples: of the joint bootstrap of set measures.
        seed: of the resampling.
    """

    def change_of(metric: str, one: PerClip, other: PerClip) -> Paired | DistanceChange:
        if metric not in measures:
            return paired(one.scores[metric], other.scores[metric])
        m = measures[metric]
        return distance_change(m.make, m.clips(one), m.clips(other), 2, seed, draws=resamples)

    found = []
    for metric in [*measures, *rows[0].scores]:
        if metric in measures:
            m = measures[metric]
            of_clean = jackknife(m.make(m.clips(rows[0])))
            clean, scale = of_clean.value, of_clean.se
        else:
            of_scores = t_interval(rows[0].scores[metric])
            clean, scale = of_scores.mean, of_scores.sd / of_scores.n**0.5
        changes = [change_of(metric, row, rows[0]) for row in rows[1:]]
        # MAD finds its cells anew in every pair of rows: only what such a pair says belongs to its interval
        values = [clean, *(clean + change.difference for change in changes)]
        rising = values[-1] > values[0]
        against = []
        for k in range(1, len(rows)):
            wrong = values[k] < values[k - 1] if rising else values[k] > values[k - 1]
            step = change_of(metric, rows[k], rows[k - 1]) if wrong else None
            against.append(step is not None and (step.high < 0 or step.low > 0))
        shape = shape_of(values, against, scale, changes[-1].low > 0 or changes[-1].high < 0)
        must = demand(LADDERS[name], metric, protocol)
        worse = "rises" if better(metric) == "lower" else "falls"
        holds = not must or (shape == "flat" if must == "flat" else shape.startswith(worse))
        lowest, highest = [clean, *(clean + c.low for c in changes)], [clean, *(clean + c.high for c in changes)]
        found.append(Response(metric, values, lowest, highest, shape, must, holds))
    return found


def result_of(tables: Mapping[str, Mapping[str, Sequence[Response]]], frame: Mapping[str, Any]) -> dict[str, Any]:
    """Protocol -> ladder -> responses as plain values with their frame; ``broken`` lists the demands not met."""
    broken = [
        f"{LADDERS[ladder].title} ({protocol}): {r.measure} must be {r.must} and is {r.shape}"
        for protocol, table in tables.items()
        for ladder, rows in table.items()
        for r in rows
        if not r.holds
    ]
    plain = {
        protocol: {
            ladder: {
                "title": LADDERS[ladder].title,
                "steps": list(LADDERS[ladder].steps[: len(rows[0].values) - 1]),
                "unit": LADDERS[ladder].unit,
                "rows": [asdict(r) for r in rows],
            }
            for ladder, rows in table.items()
        }
        for protocol, table in tables.items()
    }
    return {"version": 1, "frame": dict(frame), "tables": plain, "broken": broken}
