"""Picture: what a command has left, file by file, as digests that two undisturbed runs share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LEFT_OUT = {".lock", "logs", "wandb", "log.txt"}
"""What says when and how often a run was started: locks and logs."""
TIMES = {"begun", "ended", "seconds", "revision"}
"""Keys of JSON that say when, not what."""
TIMED = ("run.json", "trial.json", "costs.json", "steps/")
"""Where such JSON stands."""


def picture(root: Path, outs: Iterable[str], ledgers: Mapping[str, str]) -> dict[str, str]:
    """Name -> digest of every file of ``outs`` below ``root``.

    Args:
        root: the folder.
        outs: files and folders in it.
        ledgers: name of an append-only file of rows -> column that keys them; its last rows count.
    """
    found: dict[str, str] = {}
    for out in outs:
        path = root / out
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            name = file.relative_to(root)
            if file.is_file() and not LEFT_OUT & set(name.parts):
                found[str(name)] = _digest(file, str(name), ledgers.get(file.name))
    return found


def _digest(path: Path, name: str, key: str | None) -> str:
    data = path.read_bytes()
    try:
        if path.suffix == ".ckpt":
            import torch

            data = repr(_plain(torch.load(path, map_location="cpu", weights_only=True))).encode()
        elif path.suffix == ".json" and any(part in name for part in TIMED):
            data = json.dumps(_untimed(json.loads(data)), sort_keys=True).encode()
        elif key is not None:
            rows = [json.loads(line) for line in data.splitlines()]
            data = json.dumps({str(row[key]): row for row in rows}, sort_keys=True).encode()
    except Exception as error:
        return f"unreadable ({type(error).__name__})"
    return hashlib.sha256(data).hexdigest()[:16]


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(item) for key, item in value.items() if key not in TIMES}
    return [_untimed(item) for item in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """A checkpoint with the bytes of its tensors: weights, averages, moments, schedules, counters, origin."""
    if hasattr(value, "dtype"):
        return str(value.dtype), tuple(value.shape), hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        return [(str(key), _plain(item)) for key, item in value.items()]
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def differences(whole: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """A line for every file that is not as it is after an undisturbed run."""
    lines = [f"{name} is missing" for name in sorted(whole.keys() - found.keys())]
    lines += [f"{name} is left over" for name in sorted(found.keys() - whole.keys())]
    return lines + [f"{name} differs" for name in sorted(whole.keys() & found.keys()) if whole[name] != found[name]]
