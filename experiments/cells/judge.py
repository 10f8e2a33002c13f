"""Judge: the cells of an experiment to its table, its analysis and ``result.json``, once for the same clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from callbacks.run_facts import environment
from experiments.cells.analysis import seed_study, slopes
from experiments.cells.experiment import Cell, Experiment
from experiments.cells.plan import Place
from experiments.cells.source import Source
from experiments.chain.runner import Outcome
from fluxlight.clips.candidates import ROWS, read_candidates
from fluxlight.clips.folders import find_clips, rendering_of
from fluxlight.files import hash_of, read_json, write_json, write_jsonl
from fluxlight.prompts import Prompt, read_prompts

RESULT = "result.json"
USUAL, MEASURES, ALPHA = 1000, 7, 0.05
"""Permutations of a small table; measures a pair is compared by; level of Holm's tests (our choice)."""


def enough(pairs: int) -> int:
    """Permutations that let a measure of a whole set pass Holm's correction over a table of so many pairs.

    p is at least 1 / (permutations + 1), and the strictest threshold is ``ALPHA`` over all comparisons. Where the usual
    number cannot reach it, twice as many as can are drawn.
    """
    least = round(pairs * MEASURES / ALPHA)
    return USUAL if least < USUAL else 2 * least


@dataclass(frozen=True)
class Judged:
    """How cells are judged.

    Attributes:
        source: the chain.
        out: folder of the experiments; each gets a folder of its own in it.
        clips: only the first so many prompts; None: all.
        resamples: permutations of set distances; None: `enough` for the table.
        jobs: processes.
        judges: "embedded" or "published", see ``fluxlight.evaluation.judges``.
        report: takes a line.
        command: what makes the result again.
        overrides: keys of every training that differ from the chain's.
        half: judge only this half of the prompts (`fluxlight.prompts.half_of`): what chose heard the other one.
    """

    source: Source
    out: Path
    clips: int | None = None
    resamples: int | None = None
    jobs: int = 1
    judges: str = "embedded"
    report: Callable[[str], None] = print
    command: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    half: str | None = None

    def prompts(self) -> list[Prompt]:
        """The prompts all cells were rendered for."""
        return read_prompts(self.source.place["slice"])[: self.clips]

    def clips_of(self, folder: Path, prompts: Sequence[Prompt]) -> Path:
        """A rendered folder, or a view of it where it holds clips of further prompts (a row of the chain)."""
        rows, wanted = read_candidates(folder), {p.id for p in prompts}
        if {row.id for row in rows} <= wanted:
            return folder
        view = self.out / "views" / hash_of([str(folder), sorted(wanted)])
        kept = [asdict(row) for row in rows if row.id in wanted]
        absolute = [{**row, "audio": str((folder / row["audio"]).resolve())} for row in kept]
        write_jsonl(view / ROWS, absolute)
        return view

    def references(self, loudness: Sequence[str]) -> list[Any]:
        """The chain's reference, and one of delivered clips where a table asks for it."""
        from experiments import reference
        from fluxlight.metrics.reference import Reference

        locked = Reference.load(self.source.place["reference"])
        if loudness == ["locked"]:
            return [locked]
        path = self.out / "reference_delivered.safetensors"
        if not path.is_file():
            self.report("judging the reference clips as they were delivered")
            words = ["--clips", str(locked.n), "--jobs", str(self.jobs), "--loudness", "delivered"]
            reference.main([*words, "--out", str(path)])
        return [locked, Reference.load(path)]

    def __call__(
        self, experiment: Experiment, places: Mapping[str, Place], outcomes: Mapping[str, Outcome]
    ) -> dict[str, Any]:
        """Judge what is there of an experiment and write ``<out>/<name>``: table.json, scores.json, result.json."""
        from fluxlight.evaluation.evaluate import VERSION, evaluate
        from fluxlight.evaluation.judges import load_judges

        folder = self.out / experiment.name
        cells = {cell.name: self._fate(places.get(cell.name), outcomes) for cell in experiment.cells}
        good = [cell for cell in experiment.cells if cells[cell.name]["state"] == "done"]
        made = {cell.name: places[cell.name].hash for cell in good}
        resamples = self.resamples or enough(len(_pairs(experiment, good)))
        more = {cell.name: found for cell in good if (found := self._runs(places[cell.name]))}
        protocol = [self.clips, resamples, self.judges, experiment.loudness, VERSION, self.half, sorted(more)]
        key = hash_of([made, *protocol, _pairs(experiment, good), experiment.analysis])
        result: dict[str, Any] = {
            "experiment": experiment.name, "title": experiment.title, "question": experiment.question,
            "analysis": experiment.analysis, "loudness": experiment.loudness, "clips": self.clips, "key": key,
            "command": self.command, "overrides": dict(self.overrides), "source": self.source.facts(), "cells": cells,
            "groups": _groups(experiment.cells), "against": {c.name: c.against for c in experiment.cells if c.against},
            "deltas": {cell.name: cell.delta for cell in experiment.cells},
            "seconds": round(sum(outcome.seconds for outcome in outcomes.values()), 1), "half": self.half,
        }  # fmt: skip
        before = _known(folder / RESULT)
        if before.get("key") == key and before.get("cells") == cells and (folder / "table.json").is_file():
            said = {**before, "command": self.command, "overrides": dict(self.overrides)}
            if said != before:
                write_json(folder / RESULT, said)
            return said
        if len(good) >= 2:
            prompts, judges = self.prompts(), load_judges(self.judges)
            systems = {c.name: self.clips_of(_slice(places[c.name]), prompts) for c in good}
            for name, clips in systems.items():
                find_clips(clips, [p.id for p in prompts], name)
            runs = {n: [[systems[n]], *([self.clips_of(f, prompts)] for f in found)] for n, found in more.items()}
            self.report(f"judging {experiment.name}: {len(good)} cells x {len(prompts)} clips")
            evaluate(
                systems, prompts, self.references(experiment.loudness), judges.claps, judges.rewards, judges.optimised,
                folder, _pairs(experiment, good), experiment.loudness, resamples, jobs=self.jobs, plots=False,
                info={name: rendering_of(clips) for name, clips in systems.items()}, extra=("diversity",),
                half=self.half, runs=runs,
            )  # fmt: skip
            result["audio"] = {name: _first(clips, prompts[0].id, folder) for name, clips in systems.items()}
            result["first_prompt"] = asdict(prompts[0])
            result |= _analysed(experiment, folder, good)
        result |= {"date": datetime.now(UTC).date().isoformat(), "environment": environment()}
        write_json(folder / RESULT, result)
        return result

    def _runs(self, place: Place) -> list[Path]:
        """Clips of the further trainings of a row that is the chain's own (``experiments.chain --seeds``)."""
        if place.work:
            return []
        return sorted(self.source.path.glob(f"seed*/{place.folder.name}/slice"))

    def _fate(self, place: Place | None, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
        if place is None:
            return {"state": "not planned", "why": "the chain has no such step"}
        if not place.work:
            return {"state": "done", "chain": place.folder.name, "seconds": 0.0}
        outcome = outcomes.get(place.work, Outcome("missing", why="it was not run"))
        said = {"state": outcome.state, "work": place.work, "seconds": outcome.seconds}
        return said | ({"why": outcome.why} if outcome.why else {})


def _slice(place: Place) -> Path:
    return place.folder / "slice"


def _pairs(experiment: Experiment, cells: Sequence[Cell]) -> list[tuple[str, str]]:
    there = {cell.name for cell in cells}
    pairs = [(cell.name, cell.against) for cell in cells if cell.against]
    return [pair for pair in dict.fromkeys([*pairs, *experiment.pairs]) if set(pair) <= there]


def _groups(cells: Sequence[Cell]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell.name)
    return groups


def _first(clips: Path, id: str, folder: Path) -> str:
    """The clip of the first prompt as a small file beside the result: what the page plays."""
    import re

    import soundfile

    from fluxlight.files import atomic_path

    path = find_clips(clips, [row.id for row in read_candidates(clips)])
    source = next(p for p, row in zip(path, read_candidates(clips), strict=True) if row.id == id)
    audio, rate = soundfile.read(source)
    name = re.sub(r"[^\w.-]+", "-", f"{clips.parent.name}-{id}") + ".mp3"
    with atomic_path(folder / "audio" / name) as temporary:
        soundfile.write(temporary, audio, rate, format="MP3", bitrate_mode="VARIABLE", compression_level=0.6)
    return f"audio/{name}"


def _analysed(experiment: Experiment, folder: Path, good: Sequence[Cell]) -> dict[str, Any]:
    """What the experiment asks for beyond the table."""
    if experiment.analysis not in ("", "matrix", "rows", "slope", "components"):
        raise ValueError(f"experiment {experiment.name}: analysis {experiment.analysis!r} is none of slope, components")
    if experiment.analysis in ("", "matrix", "rows"):
        return {}
    table = next(iter(read_json(folder / "table.json")["tables"].values()))
    scores, groups = read_json(folder / "scores.json"), _groups(good)
    made = slopes if experiment.analysis == "slope" else seed_study
    return {experiment.analysis: made(table, scores, groups)}


def _known(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path))
    except (FileNotFoundError, ValueError):
        return {}
