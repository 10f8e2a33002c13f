"""Reads what an offline wandb run holds: the records of its ``.wandb`` file (LevelDB's log format, protobuf inside)."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7


@dataclass
class OfflineRun:
    """One offline run folder: its name, group, tags, configuration, history rows and summary."""

    folder: Path
    id: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    sweep_id: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None
    started: int = 0

    def media(self, kind: str) -> list[Path]:
        """Media files of a kind (audio, html, table)."""
        return sorted((self.folder / "files" / "media" / kind).rglob("*.*"))


def offline_runs(save_dir: Path, patience: float = 120.0) -> list[OfflineRun]:
    """Every offline run below ``save_dir/wandb``, oldest first; wandb's service writes on after a run was closed."""
    end = time.monotonic() + patience
    while True:
        runs = [read_run(folder) for folder in (save_dir / "wandb").glob("offline-run-*")]
        # not by name: two may begin within one second
        runs.sort(key=lambda run: run.started)
        if all(run.exit_code is not None for run in runs) or time.monotonic() > end:
            return runs
        time.sleep(0.2)


def read_run(folder: Path) -> OfflineRun:
    """The run of one ``offline-run-*`` folder."""
    from wandb.proto import wandb_internal_pb2

    run = OfflineRun(folder)
    (path,) = folder.glob("*.wandb")
    for data in records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            said = record.run
            run.id, run.name, run.group, run.job_type = said.run_id, said.display_name, said.run_group, said.job_type
            run.sweep_id, run.tags = said.sweep_id, list(said.tags)
            run.started = run.started or said.start_time.ToNanoseconds()
            _update(run.config, said.config.update)
        elif kind == "config":
            _update(run.config, record.config.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            for item in record.history.item:
                key, *inner = [item.key] if item.key else list(item.nested_key)
                value = json.loads(item.value_json)
                row[key] = {**row.get(key, {}), "/".join(inner): value} if inner else value
            run.history.append(row)
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _update(config: dict[str, Any], items: Any) -> None:
    for item in items:
        config[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)


def records(data: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log with wandb's 7-byte header; one that was cut short ends the reading."""
    place, parts = HEADER, []
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if kind == 0:
            return
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []
