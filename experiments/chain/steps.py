"""Steps of a chain: command lines a user could type, what each needs and what it leaves; run once, in one process."""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.chain.run_folder import RunFolder, State
from experiments.chain.runner import Outcome, bring_all
from fluxlight import progress
from fluxlight.files import content, hash_of, read_yaml, sha256
from fluxlight.progress import clock

if TYPE_CHECKING:
    from experiments.chain.forecast import Forecast

Report = Callable[[str], None]

NOTES = {
    "fresh": "",
    "resume": " -- going on",
    "changed": " -- its inputs have changed, made again",
    "damaged": " -- its files have changed, made again",
}


@dataclass(frozen=True)
class Command:
    """One command line.

    Attributes:
        program: ``fluxlight``, or a module that is run with ``python -m``.
        args: its arguments.
    """

    program: str
    args: tuple[str, ...]

    @property
    def line(self) -> str:
        """What a user would type."""
        start = ["fluxlight"] if self.program == "fluxlight" else ["python", "-m", self.program]
        return shlex.join([*start, *self.args])

    def run(self) -> None:
        """Run it in this process; anything but success raises."""
        args = list(self.args)
        try:
            if self.program == "fluxlight":
                # errors and Ctrl-C come through as they are, to be told once
                code: object = importlib.import_module("fluxlight.cli").main(args, standalone=False)
            else:
                code = importlib.import_module(self.program).main(args)
        except SystemExit as end:
            code = end.code
        if code:
            raise StepFailed(f"`{' '.join(self.line.split()[:3])} ...` ended with {code!r}")


class StepFailed(RuntimeError):
    """A command of a step did not succeed; it has said why itself."""


@dataclass(frozen=True)
class Step:
    """A step of the chain.

    Attributes:
        name: of its marker, and of its folder unless ``folders`` says otherwise.
        title: one line for the reader.
        commands: run in order.
        outputs: glob patterns below the run folder; their hashes are the result.
        needs: steps whose results it reads.
        folders: folders below the run folder that are its own and go when its inputs change.
        reads: further files it depends on by their content: the frozen weights of codec and judges, stores of the user.
    """

    name: str
    title: str
    commands: tuple[Command, ...]
    outputs: tuple[str, ...]
    needs: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()

    def inputs(self, run: RunFolder) -> dict[str, Any]:
        """What it is made from: command lines, content of every file they name, results of the steps it needs."""
        out, files = str(run.path), {"/".join(Path(path).parts[-2:]): content(path) for path in self.reads}

        def plain(word: str) -> str:
            """A word without the names of the run folder and of the folder it is typed in: both may be moved."""
            if not word.startswith(out) and word.endswith((".yaml", ".json")) and Path(word).is_file():
                # with what its defaults say: a change there is a change of this file
                files[Path(word).name] = sha256(word) if word.endswith(".json") else hash_of(read_yaml(word))
                return Path(word).name
            return word.replace(out, "<out>")

        lines = [[command.program, *map(plain, command.args)] for command in self.commands]
        return {"commands": lines, "files": files, "needs": {name: run.result(name) for name in self.needs}}


def run_steps(
    run: RunFolder, steps: Sequence[Step], report: Report, processes: int = 1, devices: Sequence[str] = (),
    forecast: Forecast | None = None, made: Callable[[Step], None] | None = None,
) -> dict[str, State]:  # fmt: skip
    """Bring every step to ``done``, those that are needed first, and tell what each one did.

    A step that fails keeps none but those that need it from being made. With several processes the words of a step go
    to ``steps/<name>.log``.

    Args:
        run: the run folder.
        steps: in an order in which needs come first.
        report: takes one line.
        processes: how many work at once.
        devices: values of CUDA_VISIBLE_DEVICES, one for each process in turn.
        forecast: says with every step, and every minute where no bar can, how long the rest will take.
        made: told of every step that was made now.

    Returns:
        The state in which each step was found.

    Raises:
        StepFailed: after everything else was made; the line names the steps that failed and why.
    """
    found: dict[str, State] = {}
    begin, alone = time.monotonic(), processes == 1 and len(devices) < 2

    def head(step: Step, note: str) -> str:
        left = f"; {forecast.left()}" if forecast is not None else ""
        return f"[{clock(time.monotonic() - begin)}] {len(found)}/{len(steps)} {step.name}: {step.title}{note}{left}"

    def make(step: Step) -> Outcome:
        state = found[step.name] = run.state(step.name, step.inputs(run))
        if forecast is not None:
            forecast.begin(step.name)
            if state == "done":
                forecast.end(step.name, 0.0, whole=False)
        report(head(step, " -- done before" if state == "done" else NOTES[state]))
        for command in step.commands if state != "done" else ():
            report(f"    {command.line}")
        return do(run, None, step)

    def note(step: Step, outcome: Outcome) -> None:
        if not alone:
            found[step.name] = outcome.found or "fresh"
        if forecast is not None:
            whole = outcome.state == "done" and not outcome.before and outcome.found != "resume"
            forecast.end(step.name, outcome.seconds, whole)
        if not alone:
            report(head(step, " -- done before" if outcome.before else f" -- {outcome.state}"))
        if outcome.state != "done":
            report(f"    {step.name} {outcome.state}: {outcome.why}")
        elif made is not None and found[step.name] != "done":
            made(step)

    def line() -> str:
        assert forecast is not None
        return f"[{clock(time.monotonic() - begin)}] {len(found)}/{len(steps)} {forecast.said()}"

    work = make if alone else partial(do, run, run.path / "steps")
    with spoken(forecast, report, line, bars=alone and progress.moving()):
        ended = bring_all(steps, work, note, processes, devices)
    if bad := {name: outcome.why for name, outcome in ended.items() if outcome.state == "failed"}:
        blocked = sum(outcome.state == "blocked" for outcome in ended.values())
        said = "; ".join(f"step {name}: {why}" for name, why in bad.items())
        raise StepFailed(said + (f" ({blocked} steps need it)" if blocked else ""))
    return found


@contextlib.contextmanager
def spoken(forecast: Forecast | None, report: Report, line: Callable[[], str], bars: bool) -> Iterator[None]:
    """Within the block bars show the time left of everything; where there are none, ``line`` is told every minute."""
    if forecast is None:
        yield
        return
    over = threading.Event()

    def tell() -> None:
        while not over.wait(progress.INTERVAL):
            report(line())

    if not bars:
        threading.Thread(target=tell, daemon=True).start()
    try:
        with progress.within(forecast.tell, silent=True):
            yield
    finally:
        over.set()


def do(run: RunFolder, logs: Path | None, step: Step) -> Outcome:
    """Make one step, its words into a file of ``logs`` where that is given; what goes wrong is its outcome."""
    from fluxlight.cli import one_line

    started = time.monotonic()
    state: State = "fresh"
    try:
        inputs = step.inputs(run)
        state = run.state(step.name, inputs)
        if state == "done":
            return Outcome("done", run.seconds(step.name) or 0.0, before=True, found=state)
        run.start(step.name, inputs, step.folders or (step.name,), wipe=state != "resume")
        with contextlib.nullcontext() if logs is None else logged(logs / f"{step.name.replace('/', '-')}.log"):
            for command in step.commands:
                if logs is not None:
                    print(command.line, flush=True)
                command.run()
        run.finish(step.name, inputs, step.outputs, time.monotonic() - started)
    except Exception as error:
        if os.environ.get("FLUXLIGHT_DEBUG"):
            raise
        return Outcome("failed", time.monotonic() - started, one_line(error), found=state)
    return Outcome("done", time.monotonic() - started, found=state)


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Both outputs of this process in a file, appended: bars of several processes are no reading."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield


