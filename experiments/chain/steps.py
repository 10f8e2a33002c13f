"""Steps of a chain: command lines a user could type, what each needs and what it leaves; run once, in one process."""

from __future__ import annotations

import importlib
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.chain.run_folder import RunFolder, State
from fluxlight.files import hash_of, read_yaml, sha256

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
        reads: further files it depends on: the frozen weights of codec and judges.
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
        out, files = str(run.path), {"/".join(Path(path).parts[-2:]): sha256(path) for path in self.reads}

        def plain(word: str) -> str:
            """A word without the names of the run folder and of the folder it is typed in: both may be moved."""
            if not word.startswith(out) and word.endswith((".yaml", ".json")) and Path(word).is_file():
                # with what its defaults say: a change there is a change of this file
                files[Path(word).name] = sha256(word) if word.endswith(".json") else hash_of(read_yaml(word))
                return Path(word).name
            return word.replace(out, "<out>")

        lines = [[command.program, *map(plain, command.args)] for command in self.commands]
        return {"commands": lines, "files": files, "needs": {name: run.result(name) for name in self.needs}}


def run_steps(run: RunFolder, steps: Sequence[Step], report: Report) -> dict[str, State]:
    """Bring every step to ``done``, in order, and tell what each one did.

    Returns:
        The state in which each step was found.
    """
    found: dict[str, State] = {}
    begin = time.monotonic()
    for number, step in enumerate(steps, 1):
        inputs = step.inputs(run)
        state = found[step.name] = run.state(step.name, inputs)
        head = f"[{clock(time.monotonic() - begin)}] {number}/{len(steps)} {step.name}: {step.title}"
        if state == "done":
            report(f"{head} -- done before")
            continue
        report(head + NOTES[state])
        for command in step.commands:
            report(f"    {command.line}")
        run.start(step.name, inputs, step.folders or (step.name,), wipe=state != "resume")
        started = time.monotonic()
        for command in step.commands:
            command.run()
        run.finish(step.name, inputs, step.outputs, time.monotonic() - started)
    return found


def clock(seconds: float) -> str:
    """``mm:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
