"""Challenge rank: points for every system strictly beaten, summed over the measures (FACTS section 9)."""

from __future__ import annotations

import math
from collections.abc import Mapping


def borda_points(
    results: Mapping[str, Mapping[str, float]], lower_is_better: frozenset[str] | set[str]
) -> dict[str, int]:
    """Points of each system: over every measure, how many others it strictly beats.

    Args:
        results: system -> measure -> value; every system needs every measure.
        lower_is_better: measures where small wins (FAD).
    """
    measures = {name for row in results.values() for name in row}
    for system, row in results.items():
        if missing := sorted(measures - set(row)):
            raise ValueError(f"rank: {system} has no {', '.join(missing)}: every system needs every measure")
        if odd := sorted(measure for measure, value in row.items() if not math.isfinite(value)):
            raise ValueError(f"rank: {odd[0]} of {system} is {row[odd[0]]}: a system without a number has no rank")
    if absent := sorted(set(lower_is_better) - measures):
        raise ValueError(f"rank: {', '.join(absent)} is no measure here (there are {', '.join(sorted(measures))})")
    points = dict.fromkeys(results, 0)
    for measure in measures:
        sign = -1.0 if measure in lower_is_better else 1.0
        for system, row in results.items():
            points[system] += sum(sign * row[measure] > sign * other[measure] for other in results.values())
    return points


def borda_rank(
    results: Mapping[str, Mapping[str, float]], lower_is_better: frozenset[str] | set[str]
) -> dict[str, int]:
    """Competition rank by points: equal points share the better rank and the next rank is skipped."""
    points = borda_points(results, lower_is_better)
    return {system: 1 + sum(other > mine for other in points.values()) for system, mine in points.items()}
