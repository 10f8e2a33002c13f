"""Measure: a system's folder of clips, or a reference, as what the judges say about it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fluxlight.clips.folders import find_clips
from fluxlight.evaluation.judging import PROTOCOLS, Judges, Task, embed_texts, judge_clip, judge_files, prepare
from fluxlight.metrics.arrays import Array
from fluxlight.metrics.clap_score import clap_scores
from fluxlight.metrics.reference import Reference
from fluxlight.prompts import Prompt

__all__ = [
    "PROTOCOLS", "Judges", "PerClip", "judge_clip", "measure", "measure_all", "prepare", "reference_from_clips",
    "reference_from_files",
]  # fmt: skip


@dataclass
class PerClip:
    """A system's clips and what was said about each; row i belongs to prompt i.

    Attributes:
        system: row name of the table.
        prompts: the prompts, in the order of the prompts file.
        scores: metric -> ``(n,)``.
        embeddings: CLAP name -> audio embeddings ``(n, d)``.
        text: CLAP name -> prompt embeddings ``(n, d)``.
        windows: CLAP name -> embeddings of the windows of each clip, n arrays ``(w_i, d)``.
        runs: trainings x noises of the system, each a row of one run on the same prompts; the first is this one.
        faults: prompt id -> what is wrong with its clip.
        loudness: LUFS of the delivered clips ``(n,)`` with all their channels, -inf when silent.
        files: sample rate in Hz, seconds and channels of each delivered clip ``(n, 3)``.
        info: what the run says about the system (checkpoint hash, seed, steps, post-processing ...).
    """

    system: str
    prompts: list[Prompt]
    scores: dict[str, Array] = field(default_factory=dict)
    embeddings: dict[str, Array] = field(default_factory=dict)
    text: dict[str, Array] = field(default_factory=dict)
    windows: dict[str, list[Array]] = field(default_factory=dict)
    runs: list[list[PerClip]] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=dict)
    loudness: Array | None = None
    files: Array | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def grid(self) -> list[list[PerClip]]:
        """Trainings x noises, each a row of one run; a system with one run is its own."""
        return [[self, *row[1:]] if k == 0 else list(row) for k, row in enumerate(self.runs)] or [[self]]

    def without(self, ids: set[str]) -> PerClip:
        """The same system without some prompts."""
        keep = np.array([p.id not in ids for p in self.prompts])
        return self.take(np.flatnonzero(keep))

    def take(self, index: Sequence[int] | np.ndarray, system: str | None = None) -> PerClip:
        """The clips of some prompts, by their positions; under another row name if one is given."""
        rows = np.asarray(index)
        prompts = [self.prompts[k] for k in rows]
        kept = {p.id for p in prompts}
        return replace(
            self, system=system or self.system, prompts=prompts,
            scores={name: value[rows] for name, value in self.scores.items()},
            embeddings={name: value[rows] for name, value in self.embeddings.items()},
            text={name: value[rows] for name, value in self.text.items()},
            windows={name: [value[k] for k in rows] for name, value in self.windows.items()},
            runs=[[run.take(rows) for run in row] for row in self.runs],
            faults={k: v for k, v in self.faults.items() if k in kept},
            loudness=None if self.loudness is None else self.loudness[rows],
            files=None if self.files is None else self.files[rows],
        )  # fmt: skip


def measure_all(
    systems: Mapping[str, str | os.PathLike[str]], prompts: Sequence[Prompt], judges: Judges, protocol: str = "locked",
    seconds: float | None = 10.0, jobs: int = 1, info: Mapping[str, Mapping[str, Any]] | None = None,
    progress: bool = False, whole: Sequence[Prompt] | None = None,
) -> list[PerClip]:  # fmt: skip
    """Judge the clips ``<id>.wav|flac|mp3`` of folders.

    Args:
        systems: row name -> folder with one file per prompt; missing and surplus files are errors that list them.
        prompts: the slice.
        judges: who judges.
        protocol: loudness, "locked" or "delivered".
        seconds: expected length of a clip, None for any.
        jobs: processes.
        info: per system, kept in its row (checkpoint hash, seed ...).
        progress: show a bar.
        whole: all prompts the folders have clips of, where only some of them are judged.
    """
    ids, held = [p.id for p in prompts], [p.id for p in whole or prompts]
    tasks = []
    for name, folder in systems.items():
        there = dict(zip(held, find_clips(folder, held, name), strict=True))
        tasks += [Task(there[p.id], p.prompt, protocol) for p in prompts]
    # texts first, and once: the clips' rewards find them in the cache
    text = {name: embed_texts([p.prompt for p in prompts], clap) for name, clap in judges.claps.items()}
    said = judge_files(tasks, judges, seconds, jobs, f"judging {len(tasks)} clips", progress)
    found = []
    for k, name in enumerate(systems):
        rows = said[k * len(ids) : (k + 1) * len(ids)]
        embeddings = {n: np.stack([row["claps"][n] for row in rows]).astype(np.float64) for n in judges.claps}
        scores = {n: clap_scores(embeddings[n], text[n]) for n in judges.claps}
        scores |= {n: np.array([row["rewards"][n] for row in rows]) for n in judges.rewards}
        windows = {n: [row["windows"][n].astype(np.float64) for row in rows] for n in judges.windows}
        faults = {i: row["faults"] for i, row in zip(ids, rows, strict=True) if row["faults"]}
        loudness = np.array([row["loudness"] for row in rows])
        about = dict((info or {}).get(name, {}))
        files = np.array([row["file"] for row in rows], dtype=np.float64)
        found.append(
            PerClip(name, list(prompts), scores, embeddings, text, windows, [], faults, loudness, files, about)
        )
    return found


def measure(
    system: str, folder: str | os.PathLike[str], prompts: Sequence[Prompt], judges: Judges, protocol: str = "locked",
    seconds: float | None = 10.0, jobs: int = 1, info: Mapping[str, Any] | None = None, progress: bool = False,
) -> PerClip:  # fmt: skip
    """Judge the clips of one folder (see ``measure_all``)."""
    about = {system: dict(info or {})}
    return measure_all({system: folder}, prompts, judges, protocol, seconds, jobs, about, progress)[0]


def reference_from_files(
    files: Sequence[Path],
    clap: Any,
    protocol: str = "locked",
    name: str = "reference",
    jobs: int = 1,
    progress: bool = False,
    windows: bool = False,
    leave_out_faulty: bool = False,
) -> Reference:
    """Frozen reference of audio files under one protocol, from cached embeddings: of clips, or of fadtk's windows.

    Faulty clips are named in ``Reference.faults`` by their path below the folder that all share; they count unless
    ``leave_out_faulty``.
    """
    judges = Judges(claps={"clap": clap}, windows=("clap",) if windows else ())
    tasks = [Task(path, "", protocol) for path in files]
    rows = judge_files(tasks, judges, None, jobs, f"reference {name}", progress)
    root = os.path.commonpath([path.absolute().parent for path in files])
    names = [path.absolute().relative_to(root).as_posix() for path in files]
    faults = {file: row["faults"] for file, row in zip(names, rows, strict=True) if row["faults"]}
    if leave_out_faulty and faults:
        rows = [row for row in rows if not row["faults"]]
        if len(rows) < 2:
            raise ValueError(
                f"reference {name}: {len(faults)} of {len(files)} clips are faulty, at least 2 must be left"
            )
    rates = [int(row["file"][0]) for row in rows]
    # the rate that most clips have, the first of those that tie
    rate = max(dict.fromkeys(rates), key=rates.count)
    if windows:
        cut = [row["windows"]["clap"] for row in rows]
        made = Reference.from_windows(cut, clap.identity, rate, name, loudness=protocol)
    else:
        embeddings = np.stack([row["claps"]["clap"] for row in rows])
        made = Reference.from_embeddings(embeddings, clap.identity, rate, name, loudness=protocol)
    made.faults = {} if leave_out_faulty else faults
    made.rates = {str(hz): rates.count(hz) for hz in sorted(set(rates))}
    return made


def reference_from_clips(
    clips: Iterable[np.ndarray], sample_rate: int, clap: Any, protocol: str = "locked", name: str = "reference"
) -> Reference:
    """Frozen reference of clips in memory, each ``(N,)``; nothing is cached, so save what comes back."""
    import torch

    rows = [
        clap.embed_audio(torch.from_numpy(prepare(clip, sample_rate, protocol))[None], sample_rate)[0] for clip in clips
    ]
    return Reference.from_embeddings(torch.stack(rows), clap.identity, sample_rate, name, loudness=protocol)
