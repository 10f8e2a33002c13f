"""Set measures: what a whole system's clips say together, with how each is resampled, its floor and its direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fluxlight.evaluation.measure import PerClip
from fluxlight.measures import EXTRAS, MEASURES
from fluxlight.metrics.reference import Reference
from fluxlight.metrics.resampling import Gram


@dataclass(frozen=True)
class SetMeasure:
    """A measure of all clips of a system.

    Attributes:
        make: clips -> Gram, which measures any resample of them.
        clips: the clips of a system as ``make`` takes them: embeddings ``(n, d)``, or a list of each clip's windows.
        floor: (held-out reference clips, the rest) -> value.
        reference: whose clips the floor holds out; None where no reference was given.
    """

    make: Callable[[Any], Gram]
    clips: Callable[[PerClip], Any]
    floor: Callable[[Any, Any], float]
    reference: Reference | None


def set_measures(
    n: int, judge: str, reference: Reference | None, windows: Reference | None = None, extra: Sequence[str] = ()
) -> dict[str, SetMeasure]:
    """The set measures of a table, in its order.

    Args:
        n: clips of a system.
        judge: name of the CLAP whose embeddings they take.
        reference: one embedding per clip; None leaves out all that need one.
        windows: reference of fadtk's windows, for ``fad_windows``.
        extra: of ``fluxlight.measures.EXTRAS``.
    """
    if unknown := sorted(set(extra) - set(EXTRAS)):
        raise ValueError(f"extra: no measure {', '.join(unknown)}: choose among {', '.join(EXTRAS)}")
    made: dict[str, SetMeasure] = {}
    for name, kind in MEASURES.items():
        if kind.extra and name not in extra:
            continue
        own = windows if kind.takes == "windows" else reference
        if lacks := kind.lacks(own):
            if kind.extra:
                raise ValueError(f"extra: {name} {lacks}: build it from a folder")
            continue
        measure = kind(n, own)
        made[name] = SetMeasure(measure.gram, _clips_of(kind.takes, judge), measure.floor, own)
    return made


def _clips_of(takes: str, judge: str) -> Callable[[PerClip], Any]:
    if takes == "windows":
        return lambda row: row.windows[judge]
    return lambda row: row.embeddings[judge]
