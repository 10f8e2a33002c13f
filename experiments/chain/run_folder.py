"""The run folder: one marker per step says what it was made from and what it made, so that a second call does no more.

A marker is written twice, atomically: ``started`` before the step (with the hash of its inputs) and ``done`` after it
(with the SHA-256 of every output). A step whose marker says ``done`` for the same inputs, and whose outputs are still
what the marker says, is skipped. A step that was started from the same inputs goes on where it stopped; one started
from others, or whose outputs were damaged since, is made again from nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fluxlight.files import hash_of, read_json, sha256, write_json

State = Literal["done", "resume", "fresh", "changed", "damaged"]


@dataclass(frozen=True)
class RunFolder:
    """Everything one chain leaves behind.

    Attributes:
        path: the folder; all paths in markers are relative to it.
    """

    path: Path

    def marker(self, step: str) -> Path:
        """Where the marker of ``step`` is."""
        return self.path / "steps" / f"{step}.json"

    def read(self, step: str) -> dict[str, Any]:
        """The marker of ``step``; empty when the step was never begun or its marker cannot be read."""
        try:
            return read_json(self.marker(step))
        except (FileNotFoundError, ValueError):
            return {}

    def state(self, step: str, inputs: dict[str, Any]) -> State:
        """What is left to do for ``step`` if it is to be made from ``inputs``."""
        marker = self.read(step)
        if not marker:
            return "fresh"
        if marker.get("input_hash") != hash_of(inputs):
            return "changed"
        if marker.get("state") == "done":
            return "done" if self.intact(marker["outputs"]) else "damaged"
        return "resume"

    def intact(self, outputs: dict[str, str]) -> bool:
        """Whether every output is still there with the same content."""
        return all((self.path / name).is_file() and sha256(self.path / name) == was for name, was in outputs.items())

    def start(self, step: str, inputs: dict[str, Any], folders: Sequence[str], wipe: bool) -> None:
        """Mark ``step`` as begun; ``wipe`` removes what an earlier attempt left in its folders."""
        if wipe:
            self.marker(step).unlink(missing_ok=True)  # first: a kill during the removal must not look like a result
            for folder in folders:
                shutil.rmtree(self.path / folder, ignore_errors=True)
        write_json(self.marker(step), {"state": "started", "inputs": inputs, "input_hash": hash_of(inputs)})

    def finish(self, step: str, inputs: dict[str, Any], outputs: Sequence[str], seconds: float) -> None:
        """Mark ``step`` as done; an expected output that is absent is an error.

        Args:
            step: its name.
            inputs: what it was made from.
            outputs: glob patterns below the run folder; each must match at least one file.
            seconds: how long it took, of this call alone.
        """
        files: dict[str, str] = {}
        for pattern in outputs:
            found = sorted(path for path in self.path.glob(pattern) if path.is_file())
            if not found:
                raise FileNotFoundError(
                    f"step {step} ended without {self.path / pattern}: remove {self.marker(step)} and run again"
                )
            files |= {path.relative_to(self.path).as_posix(): sha256(path) for path in found}
        marker = {"state": "done", "inputs": inputs, "input_hash": hash_of(inputs), "outputs": files}
        write_json(self.marker(step), {**marker, "seconds": round(seconds, 1)})

    def result(self, step: str) -> str:
        """One hash for all outputs of a finished step (its inputs, if it makes nothing): what later steps depend on."""
        marker = self.read(step)
        return hash_of(marker["outputs"] or marker["input_hash"])

    def seconds(self, step: str) -> float | None:
        """How long the finished step took."""
        return self.read(step).get("seconds")
