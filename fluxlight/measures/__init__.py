"""Measures of a whole system.

Every file of this folder is imported, so tables, plots, ladders and callbacks know a new
measure by its name.
"""

from __future__ import annotations

from fluxlight.measures.base import Better, Measure
from fluxlight.metrics.direction import direction
from fluxlight.recorded import family

_FOUND = [kind for kind in family(__name__, __path__, Measure).values() if kind is not Measure]
MEASURES: dict[str, type[Measure]] = {kind.name: kind for kind in sorted(_FOUND, key=lambda k: (k.order, k.name))}  # type: ignore[attr-defined]
"""Every measure by name, in the order of a table."""
EXTRAS = tuple(name for name, kind in MEASURES.items() if kind.extra)
"""Those that a table has only when asked."""
PER_CLIP = tuple(name for name in EXTRAS if MEASURES[name].takes == "clips")
"""Those of them that take one embedding a clip."""


def better(name: str) -> Better:
    """Which way of a measure or of a judge's score is better; of one that is not ours, what its name says."""
    kind = MEASURES.get(name)
    said: Better = kind.better if kind else direction(name) or "unknown"  # type: ignore[assignment]
    return said


__all__ = ["EXTRAS", "MEASURES", "PER_CLIP", "Better", "Measure", "better"]
