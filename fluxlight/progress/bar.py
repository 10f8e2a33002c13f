"""Bar: how far a piece of work is. In a terminal a moving bar; without one a plain line a minute.

Whoever runs several pieces of work one after another (`within`) is told of each and says what every bar adds: the time
left of the whole.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
Outer = Callable[[str, float | None, float], str]
"""Told what goes on, the share that is done (None: not known) and the seconds left of it; what it says is shown."""

INTERVAL = 60.0
"""Seconds between two lines of a log file (our choice)."""
SETTLED = 5.0
"""Seconds before a bar knows its pace, and so before a log file is told of it (our choice)."""
GLANCE = 0.2
"""Seconds between two looks of a terminal's reader."""

_outer: Outer | None = None
_silent = False
_spoken = time.monotonic()


@contextmanager
def within(outer: Outer, silent: bool = False) -> Iterator[None]:
    """Within the block every bar tells ``outer`` how far it is.

    Args:
        outer: shown behind each bar.
        silent: bars write no lines into a log file: ``outer`` does it for them.
    """
    global _outer, _silent
    before = _outer, _silent
    _outer, _silent = outer, silent
    try:
        yield
    finally:
        _outer, _silent = before


def moving() -> bool:
    """Whether bars can move: somebody looks at a terminal."""
    return sys.stderr.isatty()


def note(line: str) -> None:
    """A line on standard error, above the bars."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)


def clock(seconds: float) -> str:
    """``mm:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


class Bar:
    """Progress of one piece of work, on standard error.

    Args:
        what: what is done.
        total: units in all; None where nobody knows.
        done: units that were done before.
        unit: what is counted, in the singular.
        leave: the bar of a terminal stays when all is done.
        show: false shows nothing.
        scale: units are bytes, shown as kB, MB ...
    """

    def __init__(
        self, what: str, total: int | None = None, done: int = 0, unit: str = "", leave: bool = True, show: bool = True,
        scale: bool = False,
    ) -> None:  # fmt: skip
        self.what, self.total, self.n, self.unit, self.show = what, total, done, unit, show
        self._first, self._begin, self._looked, self._said = done, time.monotonic(), 0.0, ""
        self._bar: Any = None
        if show and moving():
            from tqdm import tqdm

            self._bar = tqdm(
                desc=what, total=total, initial=done, unit=unit or "it", leave=leave, dynamic_ncols=True, smoothing=0.1,
                mininterval=GLANCE, unit_scale=scale, unit_divisor=1024 if scale else 1000,
            )  # fmt: skip

    def update(self, n: int = 1) -> None:
        """``n`` units further."""
        self.n += n
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(n)
        if self.show and now - self._looked >= GLANCE:
            self._looked = now
            self._tell(now)

    def say(self, text: str) -> None:
        """A few words behind the bar, for instance the loss."""
        self._said = text

    def close(self) -> None:
        """All is done, or nothing more will be."""
        if self._bar is not None:
            self._bar.set_postfix_str(self._said, refresh=False)
            self._bar.close()
            self._bar = None

    @property
    def left(self) -> float:
        """Seconds left at the pace so far; infinite where it is not known."""
        made = self.n - self._first
        if not self.total or made <= 0:
            return float("inf")
        return (time.monotonic() - self._begin) / made * max(self.total - self.n, 0)

    def _tell(self, now: float) -> None:
        global _spoken
        share = self.n / self.total if self.total else None
        about = _outer(self.what, share, self.left) if _outer is not None else ""
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(part for part in (self._said, about) if part), refresh=False)
        elif not _silent and now - _spoken >= INTERVAL and now - self._begin >= SETTLED:
            _spoken = now
            print("; ".join(part for part in (self.line(), self._said, about) if part), file=sys.stderr, flush=True)

    def line(self) -> str:
        """How far it is, in words."""
        # a batch, batches
        unit = f" {self.unit}{'es' if self.unit.endswith('ch') else 's'}" if self.unit else ""
        if not self.total:
            return f"{self.what}: {self.n}{unit}"
        left = self.left
        return f"{self.what}: {self.n} of {self.total}{unit}, {self.n / self.total:.0%}" + (
            f", {clock(left)} left" if left != float("inf") else ""
        )

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def track(items: Iterable[T], what: str, total: int | None = None, unit: str = "", show: bool = True) -> Iterator[T]:
    """The items one by one, with a bar over them; ``total`` where they have no length."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    with Bar(what, total, unit=unit, show=show) as bar:
        for item in items:
            yield item
            bar.update()
