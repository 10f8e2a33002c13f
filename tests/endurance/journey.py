"""Journeys: a command is stopped at random points and called again until it is done; the result must be the same."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from endurance.commands import COMMANDS, ROOT, Command
from endurance.ends import Ran, draw, run
from endurance.picture import differences, picture


@dataclass
class Found:
    """What was tried of a command, and what came out.

    Attributes:
        points: ends that were reached.
        journeys: ways from nothing to the result.
        differences: lines, each with the ends that led there.
        kinds: how often each kind of end was reached.
    """

    points: int = 0
    journeys: int = 0
    differences: list[str] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)


class Endurance:
    """A folder in which commands are run undisturbed once, and then on ways with random ends.

    Both run in the same place, so that equal results are equal bytes.

    Args:
        folder: for everything; empty.
        seed: of the points.
        say: takes one line.
    """

    def __init__(self, folder: Path, seed: int = 0, say: Callable[[str], None] = print) -> None:
        self.work, self.kept, self.say = folder / "work", folder / "kept", say
        self.rng = random.Random(seed)
        self.work.mkdir(parents=True)
        os.environ["FLUXLIGHT_CACHE"] = str(self.work / "cache")
        os.environ["MPLCONFIGDIR"] = str(folder / "matplotlib")
        os.environ["WANDB_MODE"] = "offline"
        # for the processes of a sweep
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
        self._whole: dict[str, tuple[Ran, dict[str, str]]] = {}

    def whole(self, command: Command) -> tuple[Ran, dict[str, str]]:
        """The undisturbed run of a command and what it left; its results stay for those that need them."""
        if command.name not in self._whole:
            for other in COMMANDS:
                if other.name in command.needs:
                    self.whole(other)
            if command.prepare is not None:
                self._must(run(lambda: command.prepare(self.work), self.work), f"{command.name}: preparation")  # type: ignore[misc]
            self._save(command, "before")
            ran = self._must(run(command.call(self.work), self.work, wall=command.wall), command.name)
            self._save(command, "after")
            self._whole[command.name] = ran, picture(self.work, command.outs, command.ledgers)
        return self._whole[command.name]

    def __call__(self, command: Command, points: int) -> Found:
        """Try ``points`` random ends of a command."""
        whole, kept = self.whole(command)
        found = Found()
        while found.points < points:
            self._load(command, "before")
            ends: list[str] = []
            for _ in range(min(self.rng.randint(1, command.stops), points - found.points)):
                end = draw(self.rng, whole)
                ran = run(command.call(self.work), self.work, end, command.wall)
                if not ran.hit:
                    break
                ends.append(str(end))
                found.kinds[end.kind] = found.kinds.get(end.kind, 0) + 1
                if "Traceback" in ran.said:
                    found.differences.append(f"{end}: a traceback: {last(ran.said)}")
            found.points += len(ends)
            found.journeys += 1
            again = run(command.call(self.work), self.work, None, command.wall)
            lines = differences(kept, picture(self.work, command.outs, command.ledgers))
            if again.code:
                lines.insert(0, f"exit code {again.code}: {last(again.said)}")
            if lines:
                found.differences.append(f"after {', then '.join(ends)}: {'; '.join(lines[:6])}")
                self.say(f"  {command.name}: {found.differences[-1]}")
        self._load(command, "after")
        return found

    def _must(self, ran: Ran, what: str) -> Ran:
        if ran.code:
            raise RuntimeError(f"{what} ended with {ran.code}, undisturbed:\n{ran.said[-3000:]}")
        return ran

    def _save(self, command: Command, when: str) -> None:
        for number, out in enumerate(command.outs):
            copy(self.work / out, self.kept / command.name / when / str(number))

    def _load(self, command: Command, when: str) -> None:
        for number, out in enumerate(command.outs):
            copy(self.kept / command.name / when / str(number), self.work / out)


def copy(source: Path, path: Path) -> None:
    """Make ``path`` what ``source`` is: a file, a folder or nothing."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if source.is_dir():
        shutil.copytree(source, path)
    elif source.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, path)


def last(said: str) -> str:
    """The last line of what a command said."""
    lines = said.strip().splitlines()
    return lines[-1][-300:] if lines else "nothing was said"


def warm(names: Sequence[str] = ()) -> None:
    """Import what commands import, so that a fork costs nothing; nothing is used."""
    import importlib

    import torch

    torch.set_num_threads(1)
    modules = ("callbacks", "fluxlight.cli.training", "fluxlight.cli.encode", "fluxlight.cli.score",
               "fluxlight.generate.generator", "fluxlight.evaluation.judges", "fluxlight.report.plots",
               "fluxlight.postprocess.folder", "fluxlight.mining.select", "fluxlight.cli.evaluate", "small_world",
               "scipy.io.wavfile", "scipy.signal", "soundfile", "soxr", *names)  # fmt: skip
    for name in modules:
        importlib.import_module(name)
    if sys.modules.get("matplotlib"):
        sys.modules["matplotlib"].use("Agg")
