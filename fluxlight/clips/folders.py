"""Folders of clips: the audio files that belong to prompts, and what a rendered folder says of itself."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fluxlight.clips.candidates import ROWS, read_candidates
from fluxlight.clips.found import LeftAside, find_audio
from fluxlight.files import some_names

SUFFIXES = (".wav", ".flac", ".mp3")


def find_clips(folder: str | os.PathLike[str], ids: Sequence[str], system: str = "") -> list[Path]:
    """The audio file ``<id>.wav|flac|mp3`` of every prompt id in ``folder``, in the order of ``ids``.

    A folder that a run has rendered (with candidates.jsonl) is read by its rows. A missing or a surplus file, or two
    files of one id, is an error that lists them.
    """
    folder, name = Path(folder), system or Path(folder).name
    if not folder.is_dir():
        raise FileNotFoundError(f"system {name}: folder {folder} does not exist")
    found: dict[str, list[Path]] = {}
    said = ""
    if (folder / ROWS).is_file():
        for row in read_candidates(folder):
            if not row.error and (folder / row.audio).is_file():
                found.setdefault(row.id, []).append(folder / row.audio)
    else:
        here = find_audio(folder, SUFFIXES, deep=False)
        for path in here.files:
            found.setdefault(path.stem, []).append(path)
        lost = f"{len(here.dangling)} links that lead nowhere ({some_names(here.dangling, 5)})" if here.dangling else ""
        said = "; ".join(filter(None, [lost, here.said()]))
    if missing := [i for i in ids if i not in found]:
        raise FileNotFoundError(
            f"system {name}: {len(missing)} of {len(ids)} prompts have no clip in {folder}: {some_names(missing)}"
            + (f"; there are {said}" if said else "")
        )
    wanted = set(ids)
    if surplus := [stem for stem in found if stem not in wanted]:
        raise ValueError(f"system {name}: {len(surplus)} clips in {folder} belong to no prompt: {some_names(surplus)}")
    if double := [stem for stem, paths in found.items() if len(paths) > 1]:
        raise ValueError(f"system {name}: more than one file per id in {folder}: {some_names(double)}")
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
    """Every audio file below ``folder``, sorted by its path there; a `LeftAside` warning names what was not taken."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"reference folder {folder} does not exist")
    found = find_audio(folder, SUFFIXES)
    if found.dangling:
        lost = f"{len(found.dangling)} links lead nowhere: {some_names(found.dangling)}"
        raise FileNotFoundError(f"folder {folder}: {lost}: mend or remove them")
    aside = f"left aside: {found.said()}" if found.aside else ""
    if not found.files:
        none = f"folder {folder} holds no {', '.join(SUFFIXES)} file"
        raise FileNotFoundError(f"{none}; {aside}" if aside else none)
    if aside:
        warnings.warn(LeftAside(f"{folder}: {aside}"), stacklevel=2)
    return found.files
