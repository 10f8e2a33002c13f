"""The folder of a run, before it starts: what is there, what may be replaced, and whether its checkpoint is whole."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from fluxlight.files import put_link
from fluxlight.stages.seal import PREVIOUS, whole

LAST = "last"
"""What ``--ckpt_path`` says for the run folder's own checkpoint."""
CHECKPOINT, BUNDLE = "last.ckpt", "bundle"


def begin(folder: str | Path, ckpt_path: str | None, first: bool = True) -> tuple[str | None, int]:
    """The checkpoint that a fit in ``folder`` goes on from, and its updates; (None, 0) for one that starts anew.

    For "last" a damaged last.ckpt gives way to the whole previous.ckpt beside it, and a line says so.

    Args:
        folder: of the run.
        ckpt_path: as it was given: a file, "last" or nothing.
        first: this is the process of the run that speaks and writes.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the checkpoint is damaged, or another run's checkpoint or bundle lies in the folder and would be
            replaced.
    """
    folder = Path(folder)
    last = folder / CHECKPOINT
    if ckpt_path and ckpt_path != LAST and not Path(ckpt_path).is_file():
        raise FileNotFoundError(f"ckpt_path {ckpt_path} does not exist: leave it out to start anew, or say last")
    updates = _fall_back(folder, first) if ckpt_path == LAST else None
    chosen = ckpt_path if ckpt_path != LAST else str(last) if last.is_file() or updates is not None else None
    if chosen and updates is None:
        updates = checkpoint_updates(chosen)
    if chosen and Path(chosen).resolve().parent == folder.resolve():
        return chosen, updates or 0
    if there := [name for name in (BUNDLE, CHECKPOINT) if (folder / name).exists()]:
        way = "go on with --ckpt_path last, " if last.is_file() else ""
        raise ValueError(
            f"{folder} holds the {' and '.join(there)} of another run, which this one would replace: {way}"
            "choose another --trainer.default_root_dir, or delete the folder"
        )
    return chosen, updates or 0


def _fall_back(folder: Path, first: bool) -> int | None:
    """Updates of last.ckpt; where it is damaged or gone, a whole previous.ckpt is put in its place, else None."""
    last, previous = folder / CHECKPOINT, folder / PREVIOUS
    if not previous.is_file():
        return None
    if last.is_file() and (updates := _updates(last)) is not None:
        return updates
    updates = _updates(previous)
    if updates is not None and first:
        state = "is damaged" if last.is_file() else "is missing"
        print(f"{last} {state}: going on from {PREVIOUS} beside it, {updates} updates", file=sys.stderr)
        put_link(previous, last)
    return updates


def checkpoint_updates(path: str | Path) -> int:
    """Updates done in a Lightning checkpoint; a damaged file is one clear error."""
    updates = _updates(path)
    if updates is not None:
        return updates
    before = Path(path).with_name(PREVIOUS)
    remedy = "delete it and run again"
    if before.is_file() and before != Path(path) and _updates(before) is not None:
        remedy = f"--ckpt_path {before} goes on from the one before"
    raise ValueError(f"checkpoint {path} cannot be read: it is damaged or no checkpoint; {remedy}")


def _updates(path: str | Path) -> int | None:
    """Updates done in a checkpoint; None where it is not as it was written."""
    try:
        if whole(path):
            # mmap: the number is wanted, not the weights
            return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception:
        pass
    return None


def refuse_precision(asked: Any, got: str | None = None) -> None:
    """Refuse a precision that a run would not have, or would die of.

    Args:
        asked: as configured.
        got: what the trainer made of it, once there is one.
    """
    names = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true", "None": "32-true"}
    name = names.get(str(asked), str(asked))
    if name.endswith("-true") and name != "32-true":
        raise ValueError(f"trainer.precision is {name}, but models and data are float32: say 32-true or bf16-mixed")
    if got is not None and got != name:
        raise ValueError(f"trainer.precision is {name}, but this machine would train in {got}: say {got} or 32-true")
