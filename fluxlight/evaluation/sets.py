"""Set measures: what a whole system's clips say together, with how each is resampled, its floor and its direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fluxlight.evaluation.measure import PerClip
from fluxlight.metrics.diversity import DiversityGram, diversity
from fluxlight.metrics.frechet import FrechetGram, fad
from fluxlight.metrics.kad import KernelGram, kad
from fluxlight.metrics.mad import MauveGram, mad
from fluxlight.metrics.reference import Reference
from fluxlight.metrics.resampling import Gram
from fluxlight.metrics.windows import FADTK, WindowGram

EXTRAS = ("fad_windows", "mad", "diversity")
"""Measures a table has only when asked: FAD in fadtk's definition, MAD, diversity."""


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
        reference: one embedding per clip; None leaves all but diversity out. KAD and MAD need its embeddings.
        windows: reference of fadtk's windows, for ``fad_windows``.
        extra: of ``EXTRAS``.
    """
    if unknown := sorted(set(extra) - set(EXTRAS)):
        raise ValueError(f"extra: no measure {', '.join(unknown)}: choose among {', '.join(EXTRAS)}")
    if "fad_windows" in extra and (windows is None or windows.windows != FADTK):
        raise ValueError(f"extra: fad_windows needs a reference made of windows ({FADTK}): build it from a folder")
    if "mad" in extra and (reference is None or reference.embeddings is None):
        raise ValueError("extra: mad needs a reference that kept its embeddings: build it from a folder")

    def embeddings(row: PerClip) -> Any:
        return row.embeddings[judge]

    made: dict[str, SetMeasure] = {}
    if reference is not None:
        mean, cov, kept = reference.mean, reference.cov, reference.embeddings
        made["fad"] = SetMeasure(lambda x: FrechetGram(x, mean, cov), embeddings, fad, reference)
        if "fad_windows" in extra:
            made["fad_windows"] = _windowed(windows, judge)  # type: ignore[arg-type]
        if kept is not None:
            width = reference.bandwidth()
            made["kad"] = SetMeasure(
                lambda x: KernelGram(x, kept, width), embeddings, lambda x, y: kad(x, y, width), reference
            )
            if "mad" in extra:
                # the same number of cells for one system, for two stacked ones and for the floor
                cells = max(2, min(n, len(kept)) // 10)
                made["mad"] = SetMeasure(
                    lambda x: MauveGram(x, kept, cells), embeddings, lambda x, y: mad(x, y, cells), reference
                )
    if "diversity" in extra:
        made["diversity"] = SetMeasure(DiversityGram, embeddings, lambda x, rest: diversity(x), reference)
    return made


def _windowed(reference: Reference, judge: str) -> SetMeasure:
    mean, cov = reference.mean, reference.cov

    def floor(x: Any, y: Any) -> float:
        rest = Reference.from_windows(y, "", 0)
        return WindowGram(x, rest.mean, rest.cov).distance()

    return SetMeasure(lambda x: WindowGram(x, mean, cov), lambda row: row.windows[judge], floor, reference)
