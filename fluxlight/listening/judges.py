"""What the judges of a table are worth on these votes: accuracy, slope and calibration error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fluxlight.listening.winrate import vote_rate
from fluxlight.rewards.calibration import expected_calibration_error

Array = NDArray[np.float64]
DRAWS = 200
"""Listeners drawn from a calibrated judge, to say what calibration error is mere chance (our choice)."""


@dataclass(frozen=True)
class Judged:
    """A judge on votes without ties.

    Attributes:
        accuracy, low, high: share of votes it would have given, the mean over prompts, with interval; an equal score
            counts half.
        n: votes without ties.
        slope: s of the most likely sigmoid(s margin): 1 calibrated, below 1 too sure, negative wrong; nan where no s
            is (all votes right, or all wrong).
        error: expected calibration error of sigmoid(margin).
        chance: what that error stays below in 95 % of cases if the judge is calibrated: few votes look badly
            calibrated by chance.
    """

    accuracy: float
    low: float
    high: float
    n: int
    slope: float
    error: float
    chance: float


def margins_of(scores: Mapping[str, Mapping[str, Mapping[str, float]]], system: str, other: str) -> dict[str, Any]:
    """``ids`` and, by measure, ``margins`` ``(N,)`` of ``system`` over ``other``, from an evaluation's scores.json.

    A measure counts where it has a finite value for both systems on every prompt.
    """
    ids = list(scores)
    if lost := [name for name in (system, other) if not all(name in scores[i] for i in ids)]:
        raise ValueError(f"scores: system {lost[0]} is not there for every prompt: evaluate it under that name")
    names = dict.fromkeys(measure for i in ids for measure in scores[i][system])
    found = {}
    for name in names:
        values = [scores[i][system].get(name, np.nan) - scores[i][other].get(name, np.nan) for i in ids]
        if np.isfinite(values).all():
            found[name] = np.array(values, dtype=np.float64)
    if not found:
        raise ValueError(f"scores: no measure has a value for {system} and {other} on every prompt")
    return {"ids": ids, "margins": found}


def preference(margin: Array) -> Array:
    """Margins ``(N,)`` to how much a judge prefers the system, in (0, 1): sigmoid over their median size.

    No vote goes into that scale, so it cannot flatter the judge (our choice).
    """
    size = float(np.median(np.abs(margin))) or float(np.abs(margin).mean()) or 1.0
    return sigmoid(margin / size)


def judged(margins: Sequence[float], points: Sequence[float], prompts: Sequence[str], seed: int = 0) -> Judged | None:
    """A judge against n single votes, or None where fewer than two prompts have one without a tie.

    Args:
        margins: score of the system minus that of the other, for the prompt of each vote.
        points: 1 where the system won, 0 where it lost; 0.5, a tie, is left out.
        prompts: id of each vote's prompt: votes on one prompt are averaged for the accuracy, which would otherwise seem
            surer than it is.
        seed: of the draws for ``chance``.
    """
    keep = np.asarray(points) != 0.5
    margin, votes = (np.asarray(x, np.float64)[keep] for x in (margins, points))
    n, place = len(votes), np.unique(np.asarray(prompts)[keep], return_inverse=True)[1]
    if n < 2 or place.max() < 1:
        return None
    right = np.where(margin == 0, 0.5, (margin > 0) == (votes > 0.5))
    share = vote_rate(np.bincount(place, right) / np.bincount(place))
    draw = np.random.default_rng(seed)
    # as sure as it is, and right that often
    drawn = (draw.random((DRAWS, n)) < sigmoid(margin)).astype(np.float64)
    errors = [_error(margin, some) for some in drawn]
    return Judged(
        float(share.rate),
        float(share.low),
        float(share.high),
        n,
        _slope(margin, votes),
        _error(margin, votes),
        float(np.quantile(errors, 0.95)),
    )


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), dtype=np.float64)


def _error(margin: Array, votes: Array) -> float:
    # bins of about ten votes, at most the usual ten bins
    bins = int(np.clip(len(votes) // 10, 1, 10))
    return expected_calibration_error(torch.from_numpy(margin), torch.from_numpy(votes), bins)


def _slope(margin: Array, votes: Array) -> float:
    """Zero of the score of a logistic regression through the origin, by bisection; it falls in the slope."""
    size = float(np.abs(margin).max(initial=0))
    if size == 0:
        return float("nan")
    x = margin / size

    def score(s: float) -> float:
        return float((x * (votes - sigmoid(s * x))).sum())

    low, high = -200.0, 200.0
    if score(low) <= 0 or score(high) >= 0:
        return float("nan")
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if score(middle) > 0 else (low, middle)
    return (low + high) / 2 / size
