"""Work: making what a plan needs, once: in this process or in several, each failure kept with its reason."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import yaml

from experiments.cells.plan import Work
from experiments.chain.run_folder import RunFolder
from experiments.chain.runner import Outcome, bring_all
from experiments.chain.steps import logged
from fluxlight.files import hash_of, write_json, write_text
from fluxlight.progress import clock

Report = Callable[[str], None]


def settled(out: Path, work: Work, retry: bool = False) -> Outcome | None:
    """The outcome of a work that needs no doing; None where something is left to do."""
    marker = RunFolder(out).read(work.name)
    if marker.get("state") == "failed" and marker["input_hash"] == hash_of(work.inputs) and not retry:
        return Outcome("failed", marker["seconds"], marker["why"], True)
    if RunFolder(out).state(work.name, work.inputs) == "done":
        return Outcome("done", marker["seconds"], "", True)
    return None


def do(out: Path, work: Work) -> Outcome:
    """Make one work; its words go to ``log.txt`` beside what it makes."""
    from fluxlight.cli import one_line

    run, folder = RunFolder(out), out / "work" / work.name
    state = run.state(work.name, work.inputs)
    run.start(work.name, work.inputs, [f"work/{work.name}"], wipe=state != "resume")
    if work.config is not None:
        write_text(folder / "cell.yaml", yaml.safe_dump(work.config, sort_keys=False, allow_unicode=True))
    begin = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with logged(folder / "log.txt"):
            for command in work.commands:
                print(command.line, flush=True)
                command.run()
        run.finish(work.name, work.inputs, work.outputs, time.monotonic() - begin)
    except Exception as error:
        if os.environ.get("FLUXLIGHT_DEBUG"):
            raise
        seconds = round(time.monotonic() - begin, 1)
        marker = {"state": "failed", "inputs": work.inputs, "input_hash": hash_of(work.inputs), "why": one_line(error)}
        write_json(run.marker(work.name), {**marker, "seconds": seconds})
        return Outcome("failed", seconds, one_line(error))
    return Outcome("done", round(time.monotonic() - begin, 1))


def make_all(
    out: Path, works: Sequence[Work], jobs: int = 1, devices: Sequence[str] = (), retry: bool = False,
    report: Report = print,
) -> dict[str, Outcome]:  # fmt: skip
    """Bring every work to an end, those that are needed first.

    Args:
        out: folder of the experiments.
        works: in an order in which needs come first.
        jobs: processes; 1 works in this one.
        devices: values of CUDA_VISIBLE_DEVICES, one for each process in turn; empty leaves them alone.
        retry: try again what failed before.
        report: takes one line per work.
    """
    begin, total = time.monotonic(), len(works)
    known = {work.name: outcome for work in works if (outcome := settled(out, work, retry)) is not None}
    report(f"{total} works, {len(known)} there already")
    ended = len(known)

    def note(work: Work, outcome: Outcome) -> None:
        nonlocal ended
        ended += 1
        said = clock(outcome.seconds) if outcome.state == "done" else f"{outcome.state}: {outcome.why}"
        report(f"[{clock(time.monotonic() - begin)}] {ended}/{total} {work.name}  {said}")

    return bring_all(works, partial(do, out), note, jobs, devices, known)
