"""Clips on disk: prompts files, folders of audio that belong to them, and what is wrong with a clip."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluxlight.files import read_json, read_jsonl
from fluxlight.mining.candidates import ROWS, read_candidates

SUFFIXES = (".wav", ".flac", ".mp3")
SILENT_PEAK = 1e-6
"""Peak under which a clip is silent (FACTS section 8: the published loader rejects it)."""
CLIPPED_LEVEL, CLIPPED_SHARE = 0.999, 0.001
"""A clip is clipped when more than 0.1 % of its samples reach 0.999 (our choice)."""
LENGTH_TOLERANCE = 0.05
"""Seconds a clip may differ from the expected length (our choice; the published zero pad is 0.015 s)."""
LOWEST_RATE = 16_000  # Hz; below it most of the range of music is missing
TAIL_SECONDS = 1.0
"""Digital silence at the end longer than this counts as truncation (our choice)."""


@dataclass(frozen=True)
class Prompt:
    """A prompt of the slice."""

    id: str
    prompt: str


def as_prompts(rows: Sequence[Prompt | Mapping[str, Any]]) -> list[Prompt]:
    """Prompts from ``{id, prompt}`` rows; ids become text and must be unique."""
    prompts = [row if isinstance(row, Prompt) else Prompt(str(row["id"]), str(row["prompt"])) for row in rows]
    seen: set[str] = set()
    if twice := sorted({p.id for p in prompts if p.id in seen or seen.add(p.id)}):  # type: ignore[func-returns-value]
        raise ValueError(f"prompts: ids given twice: {_some(twice)}")
    if not prompts:
        raise ValueError("prompts: the list is empty")
    return prompts


def read_prompts(path: str | os.PathLike[str]) -> list[Prompt]:
    """Prompts of a JSON list of {id, prompt}, a CSV with columns id and prompt, or a prompt store, in their order."""
    path = Path(path)
    if (path / "rows.jsonl").is_file():
        return as_prompts([{"id": row["id"], "prompt": row["caption"]} for row in read_jsonl(path / "rows.jsonl")])
    if not path.is_file():
        raise FileNotFoundError(
            f"prompts file {path} does not exist: give a JSON list of {{id, prompt}} or a CSV id,prompt"
        )
    if path.suffix.lower() == ".csv":
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows: Any = list(csv.DictReader(file))
    else:
        rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and {"id", "prompt"} <= set(row) for row in rows):
        raise ValueError(
            f"prompts file {path}: every row needs id and prompt (JSON list of {{id, prompt}} or CSV id,prompt)"
        )
    try:
        return as_prompts(rows)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def find_clips(folder: str | os.PathLike[str], ids: Sequence[str], system: str = "") -> list[Path]:
    """The audio file ``<id>.wav|flac|mp3`` of every prompt id in ``folder``, in the order of ``ids``.

    A folder that a run has rendered (with candidates.jsonl) is read by its rows. A missing or a surplus file, or two
    files of one id, is an error that lists them.
    """
    folder, name = Path(folder), system or Path(folder).name
    if not folder.is_dir():
        raise FileNotFoundError(f"system {name}: folder {folder} does not exist")
    found: dict[str, list[Path]] = {}
    if (folder / ROWS).is_file():
        for row in read_candidates(folder):
            if not row.error and (folder / row.audio).is_file():
                found.setdefault(row.id, []).append(folder / row.audio)
    else:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                found.setdefault(path.stem, []).append(path)
    if missing := [i for i in ids if i not in found]:
        raise FileNotFoundError(
            f"system {name}: {len(missing)} of {len(ids)} prompts have no clip in {folder}: {_some(missing)}"
        )
    wanted = set(ids)
    if surplus := [stem for stem in found if stem not in wanted]:
        raise ValueError(f"system {name}: {len(surplus)} clips in {folder} belong to no prompt: {_some(surplus)}")
    if double := [stem for stem, paths in found.items() if len(paths) > 1]:
        raise ValueError(f"system {name}: more than one file per id in {folder}: {_some(double)}")
    return [found[i][0] for i in ids]


def rendering_of(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What a rendered folder says about itself (weights, sampler, first noise seed, post-processing); else nothing."""
    if not (Path(folder) / ROWS).is_file():
        return {}
    rows = [row for row in read_candidates(Path(folder)) if not row.error]
    if not rows:
        return {}
    notes = sorted({note for row in rows for note in row.extra.get("notes", [])})
    first = rows[0]
    said: dict[str, Any] = {key: first.extra[key] for key in ("codec", "step") if key in first.extra}
    # the rest of a sampler's settings is in the run's config.yaml
    said |= {key: first.extra.get("sampler", {}).get(key) for key in ("score", "cfg_weight", "steps", "method")}
    noted = {"postprocess": "; ".join(notes)} if notes else {}
    return {"checkpoint": first.checkpoint, "noise_seed": min(row.seed for row in rows), **noted, **said}


def audio_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Every audio file below ``folder``, sorted by its path there."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"reference folder {folder} does not exist")
    files = [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if not files:
        raise FileNotFoundError(f"folder {folder} holds no {', '.join(SUFFIXES)} file")
    return sorted(files, key=lambda p: p.relative_to(folder).as_posix())


def read_clip(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], int]:
    """Mono samples ``(N,)`` float32 (channel mean) and the sample rate in Hz of an audio file."""
    import soundfile

    try:
        audio, sample_rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(f"audio file {path} cannot be read ({error}): render it again") from None
    return audio.mean(axis=1), int(sample_rate)


def find_faults(audio: NDArray[np.float32], sample_rate: int, seconds: float | None) -> list[str]:
    """What is wrong with a clip ``(N,)``: not finite, low rate, silent, clipped, truncated, wrong length.

    Args:
        audio: samples.
        sample_rate: Hz.
        seconds: expected length, or None when any length will do.
    """
    faults: list[str] = []
    bad = ~np.isfinite(audio)
    if bad.any():
        faults.append(f"not finite ({int(bad.sum())} samples)")
    audio = np.where(bad, 0, audio)
    length, level = audio.size / sample_rate, np.abs(audio)
    if sample_rate < LOWEST_RATE:
        faults.append(f"low sample rate ({sample_rate} Hz)")
    if seconds is not None and length < seconds - LENGTH_TOLERANCE:
        faults.append(f"truncated ({length:.2f} s of {seconds:g} s)")
    elif seconds is not None and length > seconds + LENGTH_TOLERANCE:
        faults.append(f"wrong length ({length:.2f} s, not {seconds:g} s)")
    if not audio.size or level.max() < SILENT_PEAK:
        return [*faults, "silent"]
    if (share := float((level >= CLIPPED_LEVEL).mean())) > CLIPPED_SHARE:
        faults.append(f"clipped ({share:.1%} of samples)")
    tail = (audio.size - 1 - int(np.flatnonzero(level >= SILENT_PEAK)[-1])) / sample_rate
    if tail > TAIL_SECONDS:
        faults.append(f"truncated (last {tail:.1f} s are digital silence)")
    return faults


def _some(names: Sequence[str], most: int = 100) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
