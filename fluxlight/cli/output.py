"""What a verb prints: errors, bars and results, no commands; of Lightning's own lines those that a user asked for."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TextIO

from fluxlight.files.printable import printable

ASKED = ("lightning.pytorch.profilers", "lightning.pytorch.callbacks")
"""Loggers whose lines follow a setting: a profiler's report, the summary of the model, why a run stopped early."""

_ASKED_WARNINGS = (r"Error detected in .*", r".* does not have a deterministic implementation.*")
"""Of ``trainer.detect_anomaly`` and of ``trainer.deterministic: warn``."""


def quiet() -> None:
    """Keep what a user needs to read; ``-W`` and PYTHONWARNINGS win over it."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ASKED:
        logging.getLogger(name).setLevel(logging.INFO)
    if sys.warnoptions:
        return
    for module in ("lightning", "torch", "torchmetrics", "jsonargparse"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
    warnings.filterwarnings("ignore", message=r".*LightningCLI's args parameter.*")
    for message in _ASKED_WARNINGS:
        warnings.filterwarnings("default", message=message)


class Steady:
    """A stream that outlives its reader: when nobody reads any more, what is written is dropped and training goes on.

    Args:
        stream: standard output or error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or drop."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Flush, or drop."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        # the descriptor itself, so that what is buffered goes there at the end of the process
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())


class Plain(Steady):
    """A `Steady` stream on which foreign text (a file name, a caption) cannot command the terminal."""

    def write(self, text: str) -> int:
        """Write with a question mark for every command but a progress bar's own: up a line."""
        super().write(text if re.fullmatch(r"(\x1b\[A)+", text) else printable(text))
        return len(text)


def steady() -> AbstractContextManager[None]:
    """Standard output and error as `Steady` streams within the block."""
    return _streams(Steady)


def plain() -> AbstractContextManager[None]:
    """Standard output and error as `Plain` streams within the block."""
    return _streams(Plain)


@contextmanager
def _streams(kind: type[Steady]) -> Iterator[None]:
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = kind(before[0]), kind(before[1])  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
