"""The whole chain with one command: ``python -m experiments.chain`` (2 CPU cores, no network).

It renders a corpus, trains rows 0 to 4 of the decomposition, renders the slice with each and leaves ``table.md``,
``table.json``, ``plots`` and ``index.html`` in the run folder. Every step prints the line a user would type. Stop it at
any time: the same command goes on where it stopped, and ends with the same files.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiments.chain.decomposition import Decomposition
from experiments.chain.forecast import forecast
from experiments.chain.numbers import ROOT, read_numbers
from experiments.chain.page import grow
from experiments.chain.run_folder import RunFolder
from experiments.chain.steps import Step, StepFailed, run_steps
from fluxlight.cli.arguments import Arguments, within
from fluxlight.progress import clock


def parser() -> argparse.ArgumentParser:
    """The arguments of the chain."""
    p = Arguments(prog="python -m experiments.chain", description=__doc__.split("\n")[0])
    add = p.add_argument
    add(
        "--scale",
        default="tiny",
        help="debug, tiny (default), laptop, small, full, or a YAML like those in configs/chain",
    )
    add("--out", type=Path, help="run folder (default: runs/<scale>)")
    add("--cache", type=Path, help="folder of corpus and embeddings (default: FLUXLIGHT_CACHE or ~/.cache/fluxlight)")
    add("--seed", type=int, default=42, help="seed of all training, and noise seed of the slice's first prompt (42)")
    add("--seeds", type=within(1), default=1, metavar="N", help="train all rows under N seeds, --seed and those "
        "after it, into seed<number>/: intervals then hold training seeds too (1)")  # fmt: skip
    add("--jobs", type=int, default=2, help="processes that render and judge, and threads of torch (2)")
    add("--processes", type=int, default=1, help="steps that are made at once; threads are shared among them (1)")
    add("--devices", default="", metavar="0,1", help="values of CUDA_VISIBLE_DEVICES, one a process (none)")
    return p


def main(args: Sequence[str] | None = None) -> int:
    """Run what is missing of the chain; 0 when all is there, 2 after an error, 130 after Ctrl-C."""
    given = parser().parse_args(args)
    again = " ".join(["python -m experiments.chain", *(sys.argv[1:] if args is None else args)])
    begin = time.monotonic()
    try:
        numbers = read_numbers(given.scale)
        out = (given.out or Path("runs") / Path(given.scale).stem).resolve()
        if out.is_dir() and any(out.iterdir()) and not (out / "steps").is_dir():
            raise ValueError(f"--out {out} holds files that are not of a chain: choose another folder")
        if given.cache:
            os.environ["FLUXLIGHT_CACHE"] = str(given.cache.resolve())
        threads(given.jobs)
        if given.processes < 1:
            raise ValueError(f"--processes is {given.processes}: at least 1 is needed")
        run = RunFolder(out)
        plan = Decomposition(
            run.path, numbers, ROOT / numbers["overlay"], given.seed, given.seed, given.jobs, given.seeds
        )
        steps = plan.steps()
        ahead = forecast(run, steps, numbers, plan.overlay, given.jobs, given.processes)
        say(f"chain {given.scale}: {len(steps)} steps -> {out}, {ahead.left()}")
        devices = [device for device in given.devices.split(",") if device]
        found = run_steps(run, steps, say, given.processes, devices, ahead, partial(heard, run.path, plan))
        say(summary(run, steps))
        fresh = sum(state != "done" for state in found.values())
        say(f"[{clock(time.monotonic() - begin)}] {fresh} steps done now, {len(found) - fresh} before")
        say(f"read {out / 'table.md'}, listen to {out / 'index.html'}")
        return 0
    except KeyboardInterrupt:
        say(f"interrupted after {clock(time.monotonic() - begin)}; what is done is kept, go on with: {again}")
        return 130
    except StepFailed as error:
        say(f"chain: {error}; what is done is kept, go on with: {again}")
        return 2
    except Exception as error:
        if os.environ.get("FLUXLIGHT_DEBUG"):
            raise
        from fluxlight.cli import one_line

        say(f"chain: {one_line(error)}; what is done is kept, go on with: {again}")
        return 2


def heard(out: Path, plan: Decomposition, step: Step) -> None:
    """After a step that has made clips: put them on the page; a page that cannot be written costs no result."""
    rows = {**plan.heard(), **plan.rows()}
    if any(folder.split("/")[0] == step.name for folder in rows.values()):
        try:
            page = grow(out, rows)
        except (OSError, ValueError) as error:
            say(f"    no page yet: {error}")
            return
        if page is not None:
            say(f"    listen: {page}")


def threads(jobs: int) -> None:
    """Set torch's threads once, for every step: bit-identical repeats need the same number each time."""
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}: at least 1 is needed")
    # idle threads soon sleep instead of spinning: beside two busy processes on two cores an update takes 0.4 s, not 8;
    # OpenMP reads it once, when torch is loaded
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    import torch

    torch.set_num_threads(jobs)


def say(line: str) -> None:
    """One line on standard output, at once."""
    print(line, flush=True)


def summary(run: RunFolder, steps: Sequence[Step]) -> str:
    """How long every step took and how many files it left."""
    lines = ["", f"{'step':<14}{'time':>9}{'files':>8}"]
    total = 0.0
    for step in steps:
        seconds = run.seconds(step.name) or 0.0
        total += seconds
        lines.append(f"{step.name:<14}{clock(seconds):>9}{len(run.read(step.name)['outputs']):>8}")
    return "\n".join([*lines, f"{'together':<14}{clock(total):>9}", ""])


