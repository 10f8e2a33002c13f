"""Sweep table: trials of a sweep, judged together; one row a setting, intervals over training seeds and prompts.

``python -m experiments.sweep_table experiments/sweeps/heads.yaml --from runs/laptop --out runs/experiments``

Trials that `wandb agent` has run are collected with ``--trials runs/sweep/<id of the sweep>``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.cells.analysis import over_seeds, per_clip, sd_interval
from experiments.cells.experiment import Cell, Experiment
from experiments.cells.judge import RESULT, Judged
from experiments.cells.plan import Place
from experiments.cells.source import Source, half_in, read_config
from experiments.chain.runner import Outcome
from experiments.claims import write_all
from experiments.sweeps.trials import Trial, Trials
from fluxlight.bundle import bundle_hash, read_recipe
from fluxlight.cli.arguments import Arguments
from fluxlight.files import hash_of, read_json, write_json

SEED = "seed_everything"


def setting_of(trial: Trial, varied: Sequence[str], folder: Path) -> str:
    """What a trial is called without its seed: its head, or its varied settings."""
    if "config" in varied:
        head = read_recipe(folder / "bundle")["head"]
        return "no head" if head is None else str(head["class_path"]).rsplit(".", 1)[-1]
    return _varied(trial, [key for key in varied if key != SEED])


def _varied(trial: Trial, varied: Sequence[str]) -> str:
    """The settings that differ from trial to trial."""
    values = {key: trial.parameters[key] for key in varied}
    return ", ".join(
        f"{k.rsplit('.', 1)[-1]} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()
    )


def _why(trial: Trial, config: dict[str, Any]) -> str:
    if trial.state == "stopped":
        rule = config["early_terminate"]["type"]
        return f"ended by {rule} after {len(trial.history)} renderings, {trial.outcome(config)}"
    return trial.why


def rows_of(systems: dict[str, Any], scores: dict[str, Any], groups: dict[str, list[str]], metrics: Sequence[str],
            first: str) -> dict[str, Any]:  # fmt: skip
    """One row a setting: every measure with its interval, and its difference from the first setting.

    Intervals are over training seeds and prompts, crossed (`fluxlight.metrics.crossed`); two settings with equally many
    trainings are compared training by training. Set distances: mean over seeds, with the spread of the seeds.
    """
    found: dict[str, Any] = {}
    for name, cells in groups.items():
        values = {m: over_seeds(per_clip(scores, cells, m)) for m in metrics}
        change = {
            m: over_seeds(per_clip(scores, cells, m), per_clip(scores, groups[first], m)) for m in metrics
            if name != first
        }  # fmt: skip
        distances = {}
        for d in systems[cells[0]].get("distances", {}):
            each = [systems[cell]["distances"][d]["value"] for cell in cells]
            distances[d] = {"mean": sum(each) / len(each), **(sd_interval(each) if len(each) > 1 else {"k": 1})}
        found[name] = {"cells": cells, "scores": values, "differences": change, "distances": distances}
    return found


def half_of_trials(folders: Sequence[Path]) -> str | None:
    """The half of the slice that is left to report on: the other one than that on which every trial was measured."""
    halves = {half_in(read_config(f / "trial.yaml")) if (f / "trial.yaml").is_file() else None for f in folders}
    return "report" if halves == {"choose"} else None


def collect(trials: Trials, source: Source, out: Path, say: Callable[[str], None] = print) -> str:
    """Judge the finished trials of a sweep and write ``<out>/<name>``; returns a line for the reader."""
    config, done = trials.config, [trial for trial in trials.all if trial.state == "finished"]
    varied = [key for key, value in config["parameters"].items() if set(value) != {"value"}]
    names: dict[str, str] = {}
    for trial in done:
        setting = setting_of(trial, varied, trials.folder / trial.id)
        names[trial.id] = f"{setting}, seed {trial.parameters[SEED]}" if SEED in varied else setting
    if len(set(names.values())) < 2:
        return f"{config['name']}: {len(names)} trials ended well, a table needs two"
    cells, places, outcomes = [], {}, {}
    for trial in trials.all:
        folder, name = trials.folder / trial.id, names.get(trial.id, f"{trial.id} ({_varied(trial, varied)})")
        group = name.rpartition(", seed ")[0] if SEED in varied and trial in done else name
        cells.append(Cell(name, group, {}, "", trial.parameters, ""))
        made = bundle_hash(folder / "bundle") if trial in done else ""
        places[name] = Place(folder, hash_of([made, trial.parameters]), trial.id, "row1")
        state = "done" if trial in done else trial.state
        outcomes[trial.id] = Outcome(state, trial.seconds, _why(trial, config))
    clips = min((int(t.parameters.get("data.slice_clips") or 0) for t in done), default=0) or None
    title = f"Sweep {config['name']}: {' x '.join(varied)}"
    question = f"Which setting does best on {config['metric']['name']}, and by more than seeds and prompts explain?"
    words = f"experiments/sweeps/{config['name']}.yaml --from {source.path.name} --out DIR"
    if config["method"] != "grid" and len(trials.all) != config.get("run_cap"):
        words += f" --cap {len(trials.all)}"
    half = half_of_trials([trials.folder / trial.id for trial in done])
    judged = Judged(source, out, clips, report=say, command=f"python -m experiments.sweep {words}", half=half)
    experiment = Experiment(config["name"], title, question, cells, analysis="rows")
    result = judged(experiment, places, outcomes)
    table = next(iter(read_json(out / config["name"] / "table.json")["tables"].values()))
    good = [cell for cell in cells if result["cells"][cell.name]["state"] == "done"]
    groups: dict[str, list[str]] = {}
    for cell in good:
        groups.setdefault(cell.group, []).append(cell.name)
    scores = read_json(out / config["name"] / "scores.json")
    first = next(iter(groups))
    rows = rows_of(table["systems"], scores, groups, table["metrics"], first)
    write_json(out / config["name"] / RESULT, {**result, "rows": rows, "first": first})
    write_all(out)
    return f"{config['name']}: {len(good)} trials in {len(groups)} rows -> {out / 'README.md'}"


def main(args: Sequence[str] | None = None) -> int:
    """Judge again what is there of a sweep."""
    from experiments.sweeps.file import read_sweep

    parser = Arguments(prog="experiments.sweep_table", description=__doc__.split("\n")[0])
    parser.add_argument("sweep", type=Path, help="sweep YAML")
    parser.add_argument("--from", dest="source", type=Path, required=True, help="run folder of the chain")
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiments")
    parser.add_argument("--trials", type=Path, help="folder of the trials (<out>/sweeps/<name>)")
    given = parser.parse_args(args)
    try:
        config, source, out = read_sweep(given.sweep), Source(given.source.resolve()), given.out.resolve()
        folder = given.trials.resolve() if given.trials else out / "sweeps" / config["name"]
        trials = Trials(folder, source.path, config, hash_of(config)[:8])
        trials.load()
        if not trials.all:
            raise FileNotFoundError(f"{folder} holds no trials: run `python -m experiments.sweep`, or name --trials")
        print(collect(trials, source, out))
    except (ValueError, OSError) as error:
        print(f"sweep_table: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
