"""Forecast: how long the rest of a chain will take.

What each step should take comes from the last run with the same numbers on this machine, else from the numbers of the
plan; both are corrected by how long the steps of this run have really taken.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.chain.run_folder import RunFolder
from experiments.chain.steps import Step
from fluxlight.files import cache_folder, hash_of, read_json, read_yaml, write_json

CORPUS, ENCODE, REFERENCE, JUDGE = 0.32, 0.26, 0.06, 0.5
"""Seconds a clip takes to be rendered by one process, encoded, embedded, judged (measured on 2 CPU cores of 2 GHz)."""
DECODE, START = 0.5, 5.0
"""Seconds to decode, deliver and write a clip of a row, and to begin a step (measured there)."""
UPDATE, BLOCK = 0.0054, 4.9e-7
"""Seconds a clip of an update takes, and what each weight of ``width^2 depth`` adds (measured there)."""
TRUST = 10.0
"""Seconds of evidence that the expected times themselves count for (our choice)."""


class Forecast:
    """Time left of a whole chain.

    Args:
        expected: seconds each step should take, in their order.
        processes: how many steps are made at once.
        kept: file that keeps what steps have taken, for the next run; None keeps nothing.
    """

    def __init__(self, expected: Mapping[str, float], processes: int = 1, kept: Path | None = None) -> None:
        self.waiting, self.processes, self.kept = dict(expected), processes, kept
        self._ratios: list[tuple[float, float]] = [(1.0, TRUST)]
        self._now, self._own, self._since, self._bar = "", 0.0, time.monotonic(), 0.0
        self.doing = ""

    def begin(self, name: str) -> None:
        """A step begins."""
        self._own = self.waiting.pop(name, START)
        self._now, self._since, self._bar, self.doing = name, time.monotonic(), 0.0, ""

    def end(self, name: str, seconds: float, whole: bool = True) -> None:
        """A step has ended.

        Args:
            name: of the step.
            seconds: how long it took.
            whole: all of it was made now: its time says how fast this machine is.
        """
        expected = self._own if name == self._now else self.waiting.pop(name, START)
        if whole and expected > 0:
            self._ratios.append((seconds / expected, expected))
            self._keep(name, seconds)
        self._now, self._own, self._bar, self.doing, self._since = "", 0.0, 0.0, "", time.monotonic()

    def tell(self, what: str, share: float | None, left: float) -> str:
        """Told by a bar how far it is; what it shows behind itself."""
        self.doing = what if share is None else f"{what} {share:.0%}"
        # little is known at first: a bar begins with what is slow only once, texts before clips
        known = share is not None and share >= 0.05 and left < float("inf")
        self._bar = left if known and time.monotonic() - self._since > 5 else 0.0
        return f"chain {self.left()}"

    @property
    def seconds(self) -> float:
        """Seconds left of everything that is not done."""
        pace, gone = self._pace(), time.monotonic() - self._since
        waiting = pace * sum(self.waiting.values()) / self.processes
        if self.processes > 1 and self.waiting:
            # what goes on is among what waits; longer than its longest step nothing takes at the pace that is known
            longest = pace * max(self.waiting.values())
            return waiting * max(gone / longest, 1.0) - min(gone, longest) if longest else waiting
        return waiting + max(pace * self._own - gone, self._bar, 0.0)

    def said(self) -> str:
        """What goes on and how long the rest will take, for a line that stands alone."""
        return "; ".join(part for part in (": ".join(filter(None, [self._now, self.doing])), self.left()) if part)

    def left(self) -> str:
        """The same in words."""
        seconds = self.seconds
        if seconds < 90:
            return f"about {max(round(seconds, -1), 10):.0f} s left"
        return f"about {seconds / 60:.0f} min left" if seconds < 5400 else f"about {seconds / 3600:.1f} h left"

    def _pace(self) -> float:
        """Real over expected time: the median over the seconds that were expected, so that one odd step says little."""
        ratios = list(self._ratios)
        gone = time.monotonic() - self._since
        if self._own > 0 and gone + self._bar > self._own:
            # so much is sure of a step that goes on, and what its bar says comes to it
            ratios.append(((gone + self._bar) / self._own, self._own))
        total, passed = sum(weight for _, weight in ratios), 0.0
        for ratio, weight in sorted(ratios):
            passed += weight
            if passed >= total / 2:
                return ratio
        return 1.0

    def _keep(self, name: str, seconds: float) -> None:
        if self.kept is not None:
            write_json(self.kept, {**_read(self.kept), name: round(seconds, 1)})


def forecast(
    run: RunFolder, steps: Sequence[Step], numbers: Mapping[str, Any], overlay: Path, jobs: int, processes: int
) -> Forecast:
    """The forecast of a chain.

    Args:
        run: the run folder: what is done there takes no time, unless it turns out to be done from other inputs.
        steps: all steps.
        numbers: the chain file.
        overlay: of its scale.
        jobs: processes that render and judge.
        processes: steps made at once.
    """
    plan = read_yaml(overlay)
    kept = cache_folder() / "chain" / f"{hash_of([dict(numbers), plan, jobs, processes])}.json"
    before = _read(kept)
    missing = [step for step in steps if run.read(step.name).get("state") != "done"]
    expected = {step.name: float(before.get(step.name, planned(step, numbers, plan, jobs))) for step in missing}
    return Forecast(expected, processes, kept)


def planned(step: Step, numbers: Mapping[str, Any], plan: Mapping[str, Any], jobs: int) -> float:
    """Seconds a step should take by the numbers of the plan, on 2 quiet CPU cores."""
    return START + sum(_command(list(command.args), command.program, numbers, plan, jobs) for command in step.commands)


def _command(
    words: list[str], program: str, numbers: Mapping[str, Any], plan: Mapping[str, Any], jobs: int
) -> float:
    clips = int((numbers["corpus"] or {}).get("slice", 100))
    model = plan.get("model", {}).get("init_args", {})
    sizes = {"hidden_dim": 128, "depth": 4} | model.get("backbone", {}).get("init_args", {})
    update = UPDATE + BLOCK * sizes["hidden_dim"] ** 2 * sizes["depth"]
    # a guided step is two forwards, a third of an update each
    sample = DECODE + model.get("sampler", {}).get("steps", 10) * 2 / 3 * update
    verb = words[0] if program == "fluxlight" else program
    if verb == "corpus":
        return CORPUS * sum(n for n in numbers["corpus"].values() if n != "shipped") / jobs
    if verb == "encode":
        return 0.0 if "--text_only" in words else ENCODE * int(_after(words, "--clips", "0"))
    if verb == "experiments.reference":
        return REFERENCE * int(_after(words, "--clips", "0"))
    if verb in ("fit", "validate"):
        shown = int(_after(words, "--data.slice_clips", str(clips)))
        rendered = 0.0 if _after(words, "--trainer.limit_val_batches", "1") == "0" else shown * sample
        return rendered + (_updates(words, plan) * update if verb == "fit" else 0.0)
    if verb == "predict":
        return sample * candidates(words)
    if verb == "evaluate":
        return JUDGE * clips * (words.count("--system") + words.count("--seed-of")) / jobs + 10
    return 1.0


def candidates(words: Sequence[str]) -> int:
    """Candidates that a call of predict draws."""
    prompts, each = (_after(words, f"--data.candidates.{key}", "1") for key in ("prompts", "per_prompt"))
    return int(prompts) * int(each)


def _updates(words: Sequence[str], plan: Mapping[str, Any]) -> float:
    """Clips that a fit trains on: updates, clips of a batch, batches of an update; a pair is four clips' work."""
    recipe = read_yaml(words[words.index("--config") + 1])
    key = re.search(r"plan\.(\w+)", str(recipe.get("trainer", {}).get("max_steps", "")))
    if key is None:
        return 0.0
    row = {**recipe.get("plan", {}).get(key[1], {}), **plan.get("plan", {}).get(key[1], {})}
    paired = 4 if "pairs" in recipe.get("data", {}).get("init_args", {}) else 1
    return float(paired * row["updates"] * row["batch"] * row["accumulate"])


def _after(words: Sequence[str], flag: str, otherwise: str) -> str:
    return words[words.index(flag) + 1] if flag in words else otherwise


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path))
    except (FileNotFoundError, ValueError):
        return {}
