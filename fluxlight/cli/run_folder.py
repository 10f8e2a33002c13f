"""The folder of a run, before it starts: what is there, what may be replaced, and whether its checkpoint is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fluxlight.stages.seal import whole

LAST = "last"
"""What ``--ckpt_path`` says for the run folder's own checkpoint."""
CHECKPOINT, BUNDLE = "last.ckpt", "bundle"


def begin(folder: str | Path, ckpt_path: str | None) -> str | None:
    """The checkpoint that a fit in ``folder`` goes on from, or None for one that starts anew.

    Args:
        folder: of the run.
        ckpt_path: as it was given: a file, "last" or nothing.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: another run's checkpoint or bundle lies in the folder and would be replaced.
    """
    folder = Path(folder)
    last = folder / CHECKPOINT
    if ckpt_path and ckpt_path != LAST and not Path(ckpt_path).is_file():
        raise FileNotFoundError(f"ckpt_path {ckpt_path} does not exist: leave it out to start anew, or say last")
    chosen = ckpt_path if ckpt_path != LAST else str(last) if last.is_file() else None
    if chosen and Path(chosen).resolve().parent == folder.resolve():
        return chosen
    if there := [name for name in (BUNDLE, CHECKPOINT) if (folder / name).exists()]:
        way = "go on with --ckpt_path last, " if last.is_file() else ""
        raise ValueError(
            f"{folder} holds the {' and '.join(there)} of another run, which this one would replace: {way}"
            "choose another --trainer.default_root_dir, or delete the folder"
        )
    return chosen


def checkpoint_updates(path: str | Path) -> int:
    """Updates done in a Lightning checkpoint; a damaged file is one clear error."""
    try:
        if whole(path):
            # mmap: the number is wanted, not the weights
            return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception:
        pass
    raise ValueError(f"checkpoint {path} cannot be read: it is damaged or no checkpoint; delete it and run again")


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
