"""Folders of clips: the audio files that belong to prompts, and what a rendered folder says of itself."""

from __future__ import annotations

import os
import warnings
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from fluxlight.clips.candidates import ROWS, read_candidates
from fluxlight.clips.found import LeftAside, find_audio
from fluxlight.clips.spread import pooled
from fluxlight.files import some_names
from fluxlight.files.costs import read_costs, total
from fluxlight.tables import clip_name, first_double, same

SUFFIXES = (".wav", ".flac", ".mp3")


def find_clips(folder: str | os.PathLike[str], ids: Sequence[str], system: str = "") -> list[Path]:
    """The audio file ``<id>.wav|flac|mp3`` of every prompt id in ``folder``, in the order of ``ids``.

    An id that cannot name a file is found under the name that `fluxlight generate` gives it. A folder that a run has
    rendered (with candidates.jsonl) is read by its rows. A missing or a surplus file, or two files of one id, is an
    error that lists them.
    """
    folder, system = Path(folder), system or Path(folder).name
    found, said = _clips_of(folder, system)
    names = [found_name(i, found) for i in ids]
    if missing := [i for i, name in zip(ids, names, strict=True) if name not in found]:
        raise FileNotFoundError(
            f"system {system}: {len(missing)} of {len(ids)} prompts have no clip in {folder}: {some_names(missing)}"
            + (f"; there are {said}" if said else "")
        )
    if twice := first_double(names):
        one, other = (ids[k] for k in twice)
        raise ValueError(f"system {system}: ids {one!r} and {other!r} name one clip in {folder}: rename one of them")
    wanted = set(names)
    if surplus := [stem for stem in found if stem not in wanted]:
        raise ValueError(
            f"system {system}: {len(surplus)} clips in {folder} belong to no prompt: {some_names(surplus)}"
        )
    if double := [stem for stem, paths in found.items() if len(paths) > 1]:
        raise ValueError(f"system {system}: more than one file per id in {folder}: {some_names(double)}")
    return [found[i][0] for i in names]


def clips_there(folder: str | os.PathLike[str], ids: Sequence[str], system: str = "") -> dict[str, Path]:
    """Id -> its audio file in ``folder``, of those that have one; everything else there is left aside."""
    found, _ = _clips_of(Path(folder), system or Path(folder).name)
    names = {i: found_name(i, found) for i in ids}
    return {i: found[name][0] for i, name in names.items() if name in found}


def _clips_of(folder: Path, system: str) -> tuple[dict[str, list[Path]], str]:
    """Name without suffix -> audio files in a folder, and what else is there, in words."""
    if not folder.is_dir():
        raise FileNotFoundError(f"system {system}: folder {folder} does not exist: give one of clips")
    found: dict[str, list[Path]] = {}
    if (folder / ROWS).is_file():
        for row in read_candidates(folder):
            if not row.error and (folder / row.audio).is_file():
                found.setdefault(same(row.id), []).append(folder / row.audio)
        return found, ""
    here = find_audio(folder, SUFFIXES, deep=False)
    for path in here.files:
        found.setdefault(same(path.stem), []).append(path)
    lost = f"{len(here.dangling)} links that lead nowhere ({some_names(here.dangling, 5)})" if here.dangling else ""
    return found, "; ".join(filter(None, [lost, here.said()]))


def found_name(id: str, found: Container[str]) -> str:
    """The name without suffix, among those ``found``, under which the clip of an id is; else the one it should have."""
    return next((name for name in (same(id), clip_name(id)) if name in found), same(id))


def rendering_of(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What a rendered folder says about itself; else nothing.

    That is weights, sampler, first noise seed, post-processing, as ``spread`` that of its normalised latents, and
    where the run folder above knows it, updates and clips of the whole way to its weights.
    """
    if not (Path(folder) / ROWS).is_file():
        return {}
    rows = [row for row in read_candidates(Path(folder)) if not row.error]
    if not rows:
        return {}
    notes = sorted({note for row in rows for note in row.extra.get("notes", [])})
    first = rows[0]
    said: dict[str, Any] = {key: first.extra[key] for key in ("codec", "step") if key in first.extra}
    # the rest of a sampler's settings is in the run's config.yaml
    sampler = first.extra.get("sampler", {})
    said |= {key: sampler.get(key) for key in ("score", "cfg_weight", "steps", "method")}
    said |= {key: sampler[key] for key in ("negative", "negative_score") if key in sampler}
    said |= {"guidance": named(sampler["guidance"])} if sampler.get("guidance") else {}
    noted = {"postprocess": "; ".join(notes)} if notes else {}
    wide = pooled([row.extra.get("spread") for row in rows])
    said |= {} if wide is None else {"spread": wide.plain()}
    if stages := read_costs(Path(folder).resolve().parent):
        said |= {"updates in all": total(stages)["updates"], "clips in all": total(stages)["clips"]}
    return {"checkpoint": first.checkpoint, "noise_seed": min(row.seed for row in rows), **noted, **said}


def named(part: dict[str, Any]) -> str:
    """A part that was recorded by class path and settings, in one word: ``Rescaled(strength=1.0)``."""
    settings = ", ".join(f"{name}={value}" for name, value in (part.get("init_args") or {}).items())
    return f"{part['class_path'].rpartition('.')[2]}({settings})"


def audio_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Every audio file below ``folder``, sorted by its path there; a `LeftAside` warning names what was not taken."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"reference folder {folder} does not exist: give one of clips")
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
