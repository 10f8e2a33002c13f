"""Runs: the trainings and noise seeds of a row as folders of clips, trainings x noises, and what must hold of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fluxlight.clips.folders import rendering_of
from fluxlight.evaluation.judging import Judges
from fluxlight.evaluation.measure import PerClip, measure_all
from fluxlight.files import no_double
from fluxlight.prompts import Prompt

Folder = str | os.PathLike[str]
Runs = Mapping[str, Sequence[Sequence[Folder]]]
"""Row -> trainings x noises -> folder; the first training under the first noise is the row's own folder."""


def check_runs(runs: Runs, systems: Mapping[str, Folder]) -> None:
    """Refuse runs that are not crossed, or are not what they are said to be.

    Raises:
        ValueError: a row that is none, a folder given twice, a training that lacks a noise of the others, equal
            weights under two trainings, or another noise seed than the first training's (where folders say so).
    """
    for name, trainings in runs.items():
        if name not in systems:
            raise ValueError(f"--seed-of or --seeds: {name} is no row of this table ({', '.join(systems)})")
        flat = [str(Path(folder).resolve()) for row in trainings for folder in row]
        no_double(flat, f"--seed-of and --seeds {name}: folder")
        counts = [len(row) for row in trainings]
        if len(set(counts)) > 1:
            raise ValueError(
                f"row {name}: its trainings have {', '.join(map(str, counts))} noise seeds: give each of them equally "
                "many, with --seeds behind the --seed-of they belong to"
            )
        facts = [[rendering_of(folder) for folder in row] for row in trainings]
        weights = [{fact.get("checkpoint") for fact in row} - {None} for row in facts]
        if any(len(known) > 1 for known in weights):
            raise ValueError(f"row {name}: folders of one training have other weights: --seed-of starts another one")
        first = [fact.get("noise_seed") for fact in facts[0]]
        if None not in first and len(set(first)) < len(first):
            raise ValueError(f"row {name}: --seeds gives noise seed {first[0]} twice: give folders of other noise")
        for k, row in enumerate(facts[1:], 2):
            if weights[k - 1] and any(weights[k - 1] & known for known in weights[: k - 1]):
                raise ValueError(f"row {name}: training {k} has the weights of an earlier one: it is no other training")
            noise = [fact.get("noise_seed") for fact in row]
            if any(None not in pair and pair[0] != pair[1] for pair in zip(noise, first, strict=True)):
                raise ValueError(f"row {name}: training {k} has noise seeds {noise}, the first one {first}: they share")


def measure_runs(
    rows: Sequence[PerClip], runs: Runs, prompts: Sequence[Prompt], judges: Judges, protocol: str,
    seconds: float | None, jobs: int, progress: bool, whole: Sequence[Prompt] | None = None,
) -> None:  # fmt: skip
    """Judge the further runs of rows that have some, all at once, and put them there."""
    named: dict[str, Folder] = {}
    places: dict[tuple[str, int, int], str] = {}
    for row in rows:
        for k, folders in enumerate(runs.get(row.system, ())):
            for j, folder in enumerate(folders):
                if k or j:
                    places[row.system, k, j] = name = f"{row.system}, training {k + 1}, noise {j + 1}"
                    named[name] = folder
    if not named:
        return
    about = {name: rendering_of(folder) for name, folder in named.items()}
    judged = measure_all(named, prompts, judges, protocol, seconds, jobs, about, progress, whole)
    found = {one.system: one for one in judged}
    for row in rows:
        trainings = runs.get(row.system, ())
        made = [[row if not (k or j) else found[places[row.system, k, j]] for j in range(len(folders))]
                for k, folders in enumerate(trainings)]  # fmt: skip
        if sum(map(len, made)) > 1:
            row.runs = made
