"""Run experiments on a finished chain: ``python -m experiments.run guidance --from runs/laptop --out runs/x``.

Each takes what its file in ``experiments/cells`` declares, makes what is missing, judges it and adds it to the report
in the output folder (``index.html``, ``README.md``). Stop it whenever you like: the same command goes on from there.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.cells.experiment import Experiment, names, read_experiment
from experiments.cells.judge import Judged
from experiments.cells.plan import Place, Planner
from experiments.cells.source import Source
from experiments.cells.work import make_all
from experiments.chain.runner import Outcome
from fluxlight.cli.arguments import Arguments
from fluxlight.progress import clock

SMOKE_CLIPS = 4


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    p = Arguments(
        prog="python -m experiments.run", description=__doc__.split("\n")[0],
        epilog=f"Experiments: {', '.join(names())}; all; or a YAML of cells of your own.",
    )  # fmt: skip
    add = p.add_argument
    add("experiments", nargs="+", metavar="NAME", help="which, in the order in which they are to be made")
    add("--from", dest="source", type=Path, required=True, metavar="DIR", help="run folder of a finished chain")
    add("--out", type=Path, required=True, help="folder of the experiments")
    add("--clips", type=int, help="render and judge only the first so many prompts (all)")
    add("--jobs", type=int, help="processes that make cells, and that judge (1, or one a device)")
    add("--devices", default="", help="CUDA devices, one process each in turn: 0,1,2,3")
    add("--judges", default="embedded", metavar="WORLD", help="who judges (embedded)")
    add("--resamples", type=int, metavar="N",
        help="permutations of FAD and KAD (1000, or what Holm's correction needs)")  # fmt: skip
    add("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE",
        help="a key of every training's configuration, such as trainer.max_steps=1000: said in the report")  # fmt: skip
    add("--only", choices=("inference",), help="leave out cells that have to be trained, and say so")
    add("--cell", dest="cells", action="append", default=[], metavar="NAME",
        help="make only these cells, and their bases")  # fmt: skip
    add("--retry", action="store_true", help="try again what failed before")
    add("--smoke", action="store_true", help=f"two cells of everything, {SMOKE_CLIPS} clips: does it run?")
    add("--plan", action="store_true", help="say what would be made, and make nothing")
    return p


def main(args: Sequence[str] | None = None) -> int:
    """Make, judge, report; 0 when all is there, 2 after an error, 130 after Ctrl-C."""
    given = parser().parse_args(args)
    again = shlex.join(["python", "-m", "experiments.run", *(sys.argv[1:] if args is None else args)])
    begin = time.monotonic()
    try:
        run(given)
        if given.plan:
            return 0
        say(f"[{clock(time.monotonic() - begin)}] read {given.out / 'README.md'}, open {given.out / 'index.html'}")
        return 0
    except KeyboardInterrupt:
        say(f"interrupted after {clock(time.monotonic() - begin)}; what is done is kept, go on with: {again}")
        return 130
    except Exception as error:
        if os.environ.get("FLUXLIGHT_DEBUG"):
            raise
        from fluxlight.cli import one_line

        say(f"experiments: {one_line(error)}")
        return 2


def run(given: argparse.Namespace) -> None:
    """Everything behind the arguments."""
    from experiments.claims import write_all

    wanted = names() if given.experiments == ["all"] else given.experiments
    experiments = [read_experiment(name, given.smoke) for name in wanted]
    devices = [word for word in given.devices.split(",") if word]
    given.jobs = max(1, len(devices)) if given.jobs is None else given.jobs
    if given.jobs < 1 or (given.clips is not None and given.clips < 2):
        raise ValueError(f"jobs is {given.jobs}, clips {given.clips}: at least 1 job and 2 clips are needed")
    source, out = Source(given.source.resolve()), given.out.resolve()
    check_out(out, source.path)
    clips = SMOKE_CLIPS if given.smoke and given.clips is None else given.clips
    resamples = 50 if given.smoke else given.resamples
    overrides = dict(setting(word) for word in given.settings)
    for experiment in experiments:
        planner = Planner(source, out, clips, overrides)
        places = plan(planner, experiment)
        trains = any(work.inputs["do"] == "fit" for work in planner.works.values())
        if overrides and not trains and len(experiments) == 1:
            raise ValueError(f"--set changes trainings, and {experiment.name} has none: leave it out")
        works = list(planner.works.values())
        if given.only == "inference":
            works = without_training(planner)
        if given.cells:
            works = [work for work in works if work.name in behind(planner, experiment, places, given.cells)]
        if given.plan:
            kept = {work.name for work in works}
            show(experiment, places, kept)
            continue
        say(f"{experiment.name}: {experiment.title}, {len(experiment.cells)} cells")
        outcomes = make_all(out, works, given.jobs, devices, given.retry, say)
        why = "only some cells were asked for" if given.cells else "it has to be trained"
        left = {name: Outcome("left out", why=why) for name in planner.works if name not in outcomes}
        command = command_of(experiment.name, source, given)
        judged = Judged(
            source, out, clips, resamples, given.jobs, given.judges, say, command, overrides if trains else {}
        )
        result = judged(experiment, places, outcomes | left)
        result_lines(result)
        write_all(out)


def check_out(out: Path, chain: Path) -> None:
    """Refuse a folder that holds something else: a report would be written over it."""
    if out.is_file():
        raise ValueError(f"--out {out} is a file: choose a folder")
    if out == chain or (out / "store").is_dir():
        raise ValueError(f"--out {out} is a chain's run folder: choose another folder")
    own = ("work", "sweeps", *names())
    if out.is_dir() and any(out.iterdir()) and not any((out / name).is_dir() for name in own):
        raise ValueError(f"--out {out} holds files that are not of experiments: choose another folder")


def command_of(name: str, source: Source, given: argparse.Namespace) -> str:
    """What makes an experiment's result again: the options that change it, and no others."""
    words = ["python", "-m", "experiments.run", name, "--from", source.path.name, "--out", "DIR"]
    words += ["--clips", str(given.clips)] if given.clips else []
    words += ["--judges", given.judges] if given.judges != "embedded" else []
    words += ["--resamples", str(given.resamples)] if given.resamples else []
    words += [word for setting in given.settings for word in ("--set", setting)]
    words += [word for cell in given.cells for word in ("--cell", cell)]
    words += ["--only", given.only] if given.only else []
    return shlex.join([*words, "--smoke"] if given.smoke else words)


def plan(planner: Planner, experiment: Experiment) -> dict[str, Place]:
    """The place of every cell's clips; a cell whose chain lacks a step has none."""
    places = {}
    for cell in experiment.cells:
        try:
            places[cell.name] = planner.cell(cell.stages, cell.take)
        except FileNotFoundError as error:
            say(f"  {cell.name} is left out: {error}")
    if not places:
        raise ValueError(f"{experiment.name}: {planner.source.path} has none of the steps it stands on")
    return places


def without_training(planner: Planner) -> list[Any]:
    """Works that train nothing and need nothing that does."""
    out: set[str] = set()
    for work in planner.works.values():
        if work.inputs["do"] == "fit" or out & set(work.needs):
            out.add(work.name)
    return [work for work in planner.works.values() if work.name not in out]


def behind(planner: Planner, experiment: Experiment, places: dict[str, Place], cells: Sequence[str]) -> set[str]:
    """Names of the works that stand behind some cells and what they are compared with."""
    if unknown := sorted(set(cells) - set(places)):
        raise ValueError(f"--cell {', '.join(unknown)}: {experiment.name} has {', '.join(places)}")
    wanted = [*cells, *(c.against for c in experiment.cells if c.name in cells and c.against)]
    todo = [places[name].work for name in wanted if places[name].work]
    found: set[str] = set()
    while todo:
        name = todo.pop()
        found.add(name)
        todo += [need for need in planner.works[name].needs if need not in found]
    return found


def setting(word: str) -> tuple[str, Any]:
    """``KEY=VALUE`` with the value as YAML reads it."""
    key, sign, value = word.partition("=")
    if not sign or not key:
        raise ValueError(f"--set {word!r} is not KEY=VALUE")
    return key, yaml.safe_load(value)


def show(experiment: Experiment, places: dict[str, Place], kept: set[str]) -> None:
    """The plan, a line a cell."""
    say(f"{experiment.name}: {experiment.title}")
    for cell in experiment.cells:
        place = places.get(cell.name)
        made = "left out" if place is None else (place.work or f"the chain's own {place.folder.name}")
        say(f"  {cell.name:<32} {made}{'' if place is None or not place.work or place.work in kept else ' (training)'}")


def result_lines(result: dict[str, Any]) -> None:
    """How an experiment ended, in lines for a terminal."""
    lost = {name: cell for name, cell in result["cells"].items() if cell["state"] != "done"}
    for name, cell in lost.items():
        say(f"  {name}: {cell['state']}, {cell.get('why', '')}")
    say(f"  {len(result['cells']) - len(lost)} of {len(result['cells'])} cells judged")


def say(line: str) -> None:
    """One line on standard output, at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
