"""Make a session: clips at one level under names that tell nothing, the orders, and the page, in one folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fluxlight.clips.folders import find_clips
from fluxlight.clips.read import heard, read_channels
from fluxlight.files import atomic_path, hash_of, read_json, sha256, write_json, write_text
from fluxlight.listening.design import Trial, design
from fluxlight.listening.page import page_of
from fluxlight.postprocess import LockedLoudness
from fluxlight.prompts import Prompt
from fluxlight.types import Clip

SESSION = "session.json"
CEILING = 0.99
"""Peak that no clip exceeds: where one would at -23 LUFS, all are played that much softer (our choice)."""
Clips = dict[tuple[str, str], Path]
"""Prompt id and system -> audio file."""


def make_session(
    systems: Mapping[str, str | os.PathLike[str]],
    prompts: Sequence[Prompt],
    out: str | os.PathLike[str],
    seed: int = 0,
    pairs: int | None = None,
    repeats: float = 0.1,
    identical: float = 0.05,
    orders: int = 8,
    lufs: float = -23.0,
    heard: float = 1.0,
) -> dict[str, Any]:
    """Write ``index.html``, ``session.json`` and ``clips/`` into ``out``; the same call again changes nothing.

    Args:
        systems: name -> folder of clips, one for every prompt; two of them.
        prompts: the slice.
        out: folder; one that holds another session is refused, for its votes would lose their clips.
        seed: of the orders and of the clips' names.
        pairs, repeats, identical, orders: see `design`.
        lufs: level of every clip, lowered for all alike where a peak would exceed full scale.
        heard: seconds of each clip that have to be heard before a vote counts.

    Returns:
        What ``session.json`` holds: the session's name, the level and the clips without one, systems, prompts, clips
        and orders.
    """
    out, names = Path(out), list(systems)
    ids = [p.id for p in prompts]
    dealt = design(ids, names, seed, pairs, repeats, identical, orders)
    found: Clips = {}
    for name, folder in systems.items():
        found |= {(i, name): path for i, path in zip(ids, find_clips(folder, ids, name), strict=True)}
    wanted = {(trial.id, system) for order in dealt for trial in order for system in (trial.a, trial.b)}
    sources = {key: sha256(path) for key, path in sorted(found.items()) if key in wanted}
    made_of = [[*key, digest] for key, digest in sources.items()]
    texts = {p.id: p.prompt for p in prompts}
    name = hash_of([made_of, texts, [[asdict(t) for t in order] for order in dealt], lufs, heard])
    if (out / SESSION).is_file() and (known := read_json(out / SESSION)).get("session") != name:
        raise ValueError(f"{out} holds another session, {known.get('session')}: choose another folder")
    # one clip against itself is two files, so that neither the page nor a table of votes shows it
    twice = {(t.id, t.a) for t in dealt[0] if t.kind == "identical"}
    files = {
        (i, system, copy): f"clips/{hash_of([name, i, system, copy])}.flac"
        for i, system in sources
        for copy in ((0, 1) if (i, system) in twice else (0,))
    }
    level, silent = _write_clips(out, found, files, lufs)
    session = {
        "session": name,
        "systems": names,
        "seed": seed,
        "lufs": round(level, 2),
        "heard": heard,
        "silent": silent,
        "prompts": texts,
        "orders": [[_row(trial, files) for trial in order] for order in dealt],
    }
    write_json(out / SESSION, session)
    write_text(out / "index.html", page_of(session))
    return session


def _row(trial: Trial, files: Mapping[tuple[str, str, int], str]) -> dict[str, str]:
    a = files[trial.id, trial.a, 0]
    b = files[trial.id, trial.b, 1 if trial.kind == "identical" else 0]
    return {"id": trial.id, "kind": trial.kind, "a": a, "b": b, "system_a": trial.a, "system_b": trial.b}


def _write_clips(
    out: Path, found: Clips, files: Mapping[tuple[str, str, int], str], lufs: float
) -> tuple[float, list[str]]:
    """Write every clip at one level; returns it in LUFS, and the clips that have none (silent, or under 0.4 s)."""
    import soundfile

    lock = LockedLoudness(lufs)

    def locked(key: tuple[str, str]) -> tuple[Clip, bool]:
        channels, rate = read_channels(found[key])
        samples = heard(channels, found[key])  # a lock would lift what is left of channels that cancel to full level
        clip = lock(Clip(key[0], torch.from_numpy(np.nan_to_num(samples, posinf=0, neginf=0)), rate))
        return clip, not any("unchanged" in note for note in clip.notes)

    # twice over the files, since a slice of clips may not fit into memory
    top, silent = 0.0, []
    for key in dict.fromkeys((i, system) for i, system, _ in files):
        clip, levelled = locked(key)
        top = max(top, float(clip.audio.abs().max())) if levelled else top
        silent += [] if levelled else [f"{key[1]}: {key[0]}"]
    gain = min(1.0, CEILING / top) if top else 1.0
    for (i, system, _), file in files.items():
        clip, levelled = locked((i, system))
        with atomic_path(out / file) as temporary:
            audio = clip.audio * gain if levelled else clip.audio
            soundfile.write(temporary, audio.numpy(), clip.sample_rate, format="FLAC", subtype="PCM_16")
    return lufs + 20 * float(np.log10(gain)), sorted(silent)
