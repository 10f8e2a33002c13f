"""Render: prompts to a folder of audio files with a manifest that says how each was made; what is there is kept.

::

    <folder>/<id>.wav           mono, 16 bit, named by the id of the prompt
    <folder>/manifest.jsonl     one row a clip: id, prompt, seeds, checkpoint, settings, scores, notes, error
    <folder>/.making.json       while it works: the files that are being written, so that a clip without a row is known
                                as its own when it goes on
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fluxlight.clips.write import write_audio
from fluxlight.files import append_jsonl, longest_name, mend_jsonl, read_json, write_json, write_jsonl
from fluxlight.generate.generator import Generator, Take
from fluxlight.generate.pipeline import Notice
from fluxlight.generate.prompts import seeds_of
from fluxlight.progress import Bar
from fluxlight.prompts import Prompt, one_warning
from fluxlight.rewards import Reward
from fluxlight.tables import clip_name

MANIFEST, MAKING = "manifest.jsonl", ".making.json"
Row = dict[str, Any]


def render(
    generator: Generator,
    prompts: Sequence[Prompt],
    out: str | Path,
    seed: int = 42,
    batch_size: int = 8,
    best_of: int = 1,
    reward: Reward | None = None,
    format: Literal["wav", "flac"] = "wav",
    progress: bool = False,
) -> list[Row]:
    """Write one clip a prompt; clips of the same prompt, seeds, weights and settings are left alone.

    Batches are cut from the whole list and repeated whole, so an interrupted run ends with the same files.

    Args:
        generator: makes the clips.
        prompts: ids and texts.
        out: the folder.
        seed, best_of: see `Generator`; candidates are judged before post-processing.
        batch_size: clips sampled at a time.
        reward: judges; None is the generator's own if ``best_of`` is above 1, else clips are not scored.
        format: of the files.
        progress: show a bar, where standard error is a terminal.

    Returns:
        The manifest's rows of ``prompts``, in their order.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: at least 1 is needed")
    out, names = Path(out), file_names(prompts, format, longest_name(out))
    seeds = seeds_of(len(prompts), seed, best_of)
    judge = reward if reward is not None or best_of == 1 else generator.reward()
    settings = generator.settings | {"reward": None if judge is None else judge.identity, "format": format}
    plans: list[Row] = [
        {"id": p.id, "prompt": p.prompt, "seeds": own, "checkpoint": generator.checkpoint, "settings": settings}
        for p, own in zip(prompts, seeds, strict=True)
    ]
    if out.is_file():
        raise ValueError(f"--out {out} is a file: choose a folder")
    out.mkdir(parents=True, exist_ok=True)
    rows = {str(row.get("id")): row for row in mend_jsonl(out / MANIFEST)}
    # a plain name: what a row names may be removed below
    files = {id: str(row.get("file") or "") for id, row in rows.items()}
    before = {id: file for id, file in files.items() if file and file == Path(file).name}
    missing = [not _is_made(rows.get(plan["id"]), plan, out) for plan in plans]
    begun = read_json(out / MAKING) if (out / MAKING).is_file() else []
    for name, plan, lacks in zip(names, plans, missing, strict=True):
        if lacks and (out / name).exists() and before.get(plan["id"]) != name and name not in begun:
            raise ValueError(f"{out / name} exists and is not in {MANIFEST}: choose another --out, or move it away")
    if others := sum(lacks and str(plan["id"]) in before for lacks, plan in zip(missing, plans, strict=True)):
        warnings.warn(Notice(f"{others} clips in {out} were made otherwise, or are gone: made anew"), stacklevel=2)
    size = max(1, batch_size // best_of)
    units = [range(start, min(start + size, len(plans))) for start in range(0, len(plans), size)]
    units = [unit for unit in units if any(missing[i] for i in unit)]
    steps = generator.sampler.steps
    total = sum(-(-len(unit) * best_of // batch_size) * steps for unit in units)
    with (
        one_warning(len(prompts), generator.text.length),
        Bar(f"generating {sum(missing)} clips", total, unit="step", show=progress) as bar,
    ):
        for unit in units:
            takes = generator.takes(
                [prompts[i] for i in unit], [seeds[i] for i in unit], batch_size, judge, lambda *_: bar.update()
            )
            write_json(out / MAKING, [names[i] for i in unit if missing[i]])
            for i, take in zip(unit, takes, strict=True):
                if not missing[i]:
                    continue
                row = _write(out, names[i], plans[i], take)
                append_jsonl(out / MANIFEST, [row])
                rows[row["id"]] = row
                # a clip of another format under the same id would be taken for a second one
                if before.get(row["id"], row["file"]) != row["file"]:
                    (out / before[row["id"]]).unlink(missing_ok=True)
    if units:
        write_jsonl(out / MANIFEST, rows.values())
    (out / MAKING).unlink(missing_ok=True)
    return [rows[plan["id"]] for plan in plans]


def file_names(prompts: Sequence[Prompt], format: str, longest: int = 255) -> list[str]:
    """File name of each prompt: its id, anything but letters, digits, ``_``, ``.`` and ``-`` made a dash.

    Args:
        prompts: whose ids are taken.
        format: of the files, which is their suffix.
        longest: bytes of a name that the disk takes.
    """
    names: dict[str, str] = {}
    for prompt in prompts:
        name = clip_name(prompt.id)
        size = len(os.fsencode(f"{name}.{format}"))
        if not name:
            raise ValueError(f"prompt id {prompt.id[:40]!r} cannot name a file: use letters and digits")
        if size > longest:
            raise ValueError(
                f"prompt id {prompt.id[:40]!r}... cannot name a file: {size} bytes, where the disk takes {longest}: "
                "shorten the id"
            )
        # some file systems do not tell A from a
        if name.lower() in names:
            raise ValueError(f"prompt ids {names[name.lower()]!r} and {prompt.id!r} name one file: rename one of them")
        names[name.lower()] = prompt.id
    return [f"{clip_name(prompt.id)}.{format}" for prompt in prompts]


def _is_made(row: Row | None, plan: Row, out: Path) -> bool:
    """Whether ``row`` is a clip made just as ``plan`` says, and its file is there."""
    if row is None or row.get("error") or any(row.get(key) != value for key, value in plan.items()):
        return False
    return bool(row.get("file")) and (out / str(row["file"])).is_file()


def _write(out: Path, name: str, plan: Row, take: Take) -> Row:
    """Write a take's file and return its row of the manifest."""
    clip = take.clip
    # JSON has no infinity
    scores = [score if np.isfinite(score) else None for score in take.scores]
    row = {**plan, "seed": take.seed, "scores": scores, "notes": clip.notes, "error": take.error, "file": ""}
    if take.error:
        return row
    _, note = write_audio(out / name, clip.audio, clip.sample_rate)
    if note:
        row["notes"] = [*clip.notes, note]
    seconds = round(len(clip.audio) / clip.sample_rate, 3)
    return {**row, "file": name, "sample_rate": clip.sample_rate, "seconds": seconds}
