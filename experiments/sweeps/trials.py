"""Trials of a sweep: their records on disk, their commands by wandb's helpers, their processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from callbacks.run_facts import NAME
from fluxlight.files import claim, hash_of, read_json, write_json

ENDED = ("finished", "failed", "stopped")


@dataclass
class Trial:
    """One trial.

    Attributes:
        number: place in the sweep.
        id: run id, a hash of its parameters.
        parameters: name -> value.
        state: pending, running, finished, failed, or stopped (by hyperband).
        command: what was run.
        seconds: how long it took, all attempts together.
        why: last line of the log of a failed one.
        history: measures after each rendering.
        agent: started by `wandb agent`, which keeps its own books: the local runner leaves it alone.
    """

    number: int
    id: str
    parameters: dict[str, Any]
    state: str = "pending"
    command: list[str] = field(default_factory=list)
    seconds: float = 0.0
    why: str = ""
    history: list[dict[str, float]] = field(default_factory=list)
    agent: bool = False

    @property
    def said(self) -> str:
        """Its parameters in one line."""
        return ", ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                         for key, value in self.parameters.items())  # fmt: skip

    def outcome(self, config: dict[str, Any]) -> str:
        """The sweep's metric, as far as it is known."""
        name = config["metric"]["name"]
        return f"{name} {self.history[-1][name]:.4f}" if self.history and name in self.history[-1] else self.why

    def as_run(self, config: dict[str, Any]) -> Any:
        """The trial as wandb's search sees it."""
        import sweeps

        states = {"pending": "pending", "running": "running", "failed": "failed"}
        return sweeps.SweepRun(
            name=self.id, state=sweeps.RunState(states.get(self.state, "finished")),
            config={key: {"value": value} for key, value in self.parameters.items()},
            history=self.history, summary_metrics=self.history[-1] if self.history else {},
            stopped=self.state == "stopped",
        )  # fmt: skip


class Trials:
    """All trials of a sweep in one folder: ``<id>/trial.json`` each, beside the run itself.

    Args:
        folder: of the sweep.
        chain: run folder of the chain.
        config: the sweep's YAML.
        sweep_id: what WANDB_SWEEP_ID says.
    """

    def __init__(self, folder: Path, chain: Path, config: dict[str, Any], sweep_id: str) -> None:
        self.folder, self.chain, self.config, self.sweep_id = folder, chain, config, sweep_id
        self.all: list[Trial] = []
        self.waiting: list[Trial] = []
        self.running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}

    @property
    def ended(self) -> list[Trial]:
        """Trials with nothing left to do."""
        return [trial for trial in self.all if trial.state in ENDED]

    def load(self, retry: bool = False) -> None:
        """Read what earlier calls have left; what was running then waits to go on."""
        found = [Trial(**read_json(path)) for path in self.folder.glob("*/trial.json")]
        self.all = sorted(found, key=lambda trial: trial.number)
        again = ("pending", "running", *(("failed",) if retry else ()))
        self.waiting = [trial for trial in self.all if trial.state in again and not trial.agent]
        for trial in self.waiting:
            trial.state = "pending"

    def is_free(self, trial: Trial) -> bool:
        """Whether no process is writing to the folder of a trial."""
        try:
            claim(self.folder / trial.id).release()
        except ValueError:
            return False
        return True

    def add(self, parameters: dict[str, Any]) -> Trial:
        """A new trial."""
        trial = Trial(len(self.all), hash_of([self.sweep_id, parameters])[:8], parameters)
        self.all.append(trial)
        self._save(trial)
        return trial

    def command(self, trial: Trial) -> list[str]:
        """The command an agent would run for a trial, put together as the agent does."""
        from wandb.sdk.launch.sweeps import utils

        args = {"args": {key: {"value": value} for key, value in trial.parameters.items()}}
        parts: dict[str, Any] = {
            **utils.create_sweep_command_args(args),
            "interpreter": ["python"], "program": [self.config["program"]], "env": ["/usr/bin/env"],
        }  # fmt: skip
        words: list[str] = []
        # a copy: the helper writes into the list it is given
        for chunk in utils.create_sweep_command(list(self.config.get("command") or []) or None):
            text = str(chunk)
            macro = text.startswith("${") and text.endswith("}")
            words += [str(word) for word in parts.get(text[2:-1]) or []] if macro else [text]
        return words

    def environment(self, trial: Trial) -> dict[str, str]:
        """An agent's environment, offline unless told otherwise."""
        from wandb.sdk.lib import config_util

        path = self.folder / trial.id / "parameters.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        config_util.save_config_file_from_dict(str(path), {k: {"value": v} for k, v in trial.parameters.items()})
        # `python` is this very one, as it is for an agent that was started from the same environment
        search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {
            "WANDB_MODE": "offline", "WANDB_SILENT": "true", **os.environ, "PATH": search,
            "WANDB_SWEEP_ID": self.sweep_id, "WANDB_RUN_ID": trial.id, "WANDB_SWEEP_PARAM_PATH": str(path),
            "FLUXLIGHT_CHAIN": str(self.chain), "FLUXLIGHT_SWEEP": str(self.folder),
        }  # fmt: skip

    def start(self, trial: Trial) -> None:
        """Start a trial's process; its words go to ``log.txt``."""
        from experiments.chain.numbers import ROOT

        trial.command, trial.state, trial.why = self.command(trial), "running", ""
        environment = self.environment(trial)
        self._save(trial)
        with (self.folder / trial.id / "log.txt").open("ab") as log:
            process = subprocess.Popen(trial.command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        self.running[trial.id] = (process, time.monotonic())

    def poll(self) -> list[Trial]:
        """Look at what is running; returns what has ended since."""
        over = []
        for trial in self.all:
            if trial.id not in self.running:
                continue
            process, begun = self.running[trial.id]
            trial.history = self._history(trial)
            if (code := process.poll()) is None:
                continue
            del self.running[trial.id]
            trial.seconds = round(trial.seconds + time.monotonic() - begun, 1)
            if trial.state != "stopped":
                trial.state = "finished" if code == 0 else "failed"
                trial.why = "" if code == 0 else f"exit code {code}: {self._last_line(trial)}"
            self._save(trial)
            over.append(trial)
        return over

    def stop_behind(self) -> None:
        """End the running trials that hyperband gives up."""
        import sweeps

        runs = {trial.id: trial.as_run(self.config) for trial in self.all if trial.history}
        for run in sweeps.stop_runs(self.config, list(runs.values())) if runs else []:
            if run.name in self.running:
                next(trial for trial in self.all if trial.id == run.name).state = "stopped"
                self.running[run.name][0].terminate()

    def interrupt(self) -> None:
        """Ask what is still running to stop, and wait for it; it goes on from its checkpoint the next time."""
        for process, _ in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for trial in self.all:
            if trial.id in self.running:
                process, begun = self.running.pop(trial.id)
                process.wait()
                trial.seconds = round(trial.seconds + time.monotonic() - begun, 1)
                trial.state = "pending"
                self._save(trial)

    def _history(self, trial: Trial) -> list[dict[str, float]]:
        try:
            fit = read_json(self.folder / trial.id / NAME).get("fit", {})
        except (FileNotFoundError, ValueError):
            return trial.history
        return list(fit.get("history", []))

    def _last_line(self, trial: Trial) -> str:
        text = (self.folder / trial.id / "log.txt").read_text(encoding="utf-8", errors="replace").strip()
        return text.splitlines()[-1][-300:] if text else "nothing was said"

    def _save(self, trial: Trial) -> None:
        write_json(self.folder / trial.id / "trial.json", asdict(trial))
