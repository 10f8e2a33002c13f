"""What a measure of a whole system is: one class in one file, which tables, plots, ladders and callbacks then know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

from fluxlight.metrics.reference import Reference
from fluxlight.metrics.resampling import Gram

Better = Literal["lower", "higher", "neither", "unknown"]


class Measure(ABC):
    """A number that all clips of a system give together.

    Args:
        n: clips of a system.
        reference: frozen reference, None for a measure that needs none.

    Attributes:
        name: key in table.json and on the command line.
        label: heading in tables and plots.
        better: which way is better; "neither" is read against real clips.
        order: place in a table; distances are below 10.
        extra: whether a table has it only when asked (``--extra``).
        takes: what `gram` gets: embeddings of "clips" ``(n, d)``, or a list of each clip's "windows" ``(w_i, d)``.
        needs: of the reference: "nothing", its "statistics", or the "embeddings" it kept.
        note: line below a table that has it.
    """

    name: str
    label: str
    better: Better = "higher"
    order: int = 10
    extra: bool = True
    takes: Literal["clips", "windows"] = "clips"
    needs: Literal["nothing", "statistics", "embeddings"] = "nothing"
    note: str = ""

    def __init__(self, n: int, reference: Reference | None = None) -> None:
        self.n, self._reference = n, reference

    @classmethod
    def lacks(cls, reference: Reference | None) -> str:
        """Why it cannot be measured against ``reference``, or ""."""
        if cls.needs == "nothing":
            return ""
        if reference is None or (cls.takes == "windows") != (reference.windows != "clip"):
            return f"needs a reference made of windows ({cls.label})" if cls.takes == "windows" else "needs a reference"
        if cls.needs == "embeddings" and reference.embeddings is None:
            return "needs a reference that kept its embeddings"
        return ""

    @property
    def reference(self) -> Reference:
        """The reference."""
        if self._reference is None:
            raise ValueError(f"{self.name} needs a reference: give one")
        return self._reference

    @abstractmethod
    def gram(self, clips: Any) -> Gram:
        """What gives the measure of any resample of ``clips``: the jackknife and the bootstrap stand on it."""

    @abstractmethod
    def floor(self, held_out: Any, rest: Any) -> float:
        """The measure of some reference clips against the others, both as ``takes`` says."""
