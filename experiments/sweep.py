"""Sweep without a server: ``python -m experiments.sweep experiments/sweeps/heads.yaml --from CHAIN --out DIR``.

The very YAML that ``wandb sweep`` takes is expanded by wandb's own search (package ``sweeps``), each trial is the
command that wandb's own helpers build for an agent, in a process of its own with an agent's environment, offline. What
is done is not done again, a trial that was stopped goes on from its checkpoint, a failure is kept with its log.
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

from experiments.cells.source import Source
from experiments.run import check_out
from experiments.sweeps.file import read_sweep
from experiments.sweeps.trials import Trial, Trials
from fluxlight.cli.arguments import Arguments
from fluxlight.files import claim, hash_of

POLL = 0.5  # seconds between two looks at what is running


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    p = Arguments(prog="python -m experiments.sweep", description=__doc__.split("\n")[0])
    add = p.add_argument
    add("sweep", type=Path, help="sweep YAML, as `wandb sweep` takes it")
    add("--from", dest="source", type=Path, required=True, metavar="DIR", help="run folder of a finished chain")
    add("--out", type=Path, required=True, help="folder of the experiments; trials go to <out>/sweeps/<name>")
    add("--jobs", type=int, default=1, help="trials at a time (1)")
    add("--cap", type=int, help="at most so many trials (run_cap of the YAML; a grid is run to its end)")
    add("--seed", type=int, default=0, help="of random and Bayesian search (0)")
    add("--retry", action="store_true", help="run failed trials again")
    add("--smoke", action="store_true", help="two trials: does it run?")
    add("--no-table", action="store_true", help="leave the judging to `python -m experiments.sweep_table`")
    return p


def next_trial(config: dict[str, Any], known: Sequence[Trial], seed: int) -> dict[str, Any] | None:
    """The next parameters by wandb's own search; None when a grid is through.

    The search draws from numpy's global generator; it is seeded by the number of the trial, so that a sweep that goes
    on draws what it would have drawn.
    """
    import numpy as np
    import sweeps

    state = np.random.get_state()
    np.random.seed([seed, len(known)])
    try:
        run = sweeps.next_run(config, [trial.as_run(config) for trial in known])
    finally:
        np.random.set_state(state)
    # numpy's numbers, which no YAML file takes
    plain = {key: value["value"] for key, value in run.config.items()} if run else {}
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in plain.items()} or None


def main(args: Sequence[str] | None = None) -> int:
    """Run what is missing of a sweep; 0 all well, 1 some trials failed, 2 after an error, 130 after Ctrl-C."""
    given = parser().parse_args(args)
    again = shlex.join(["python", "-m", "experiments.sweep", *(sys.argv[1:] if args is None else args)])
    try:
        return run(given)
    except KeyboardInterrupt:
        say(f"interrupted; what is done is kept, go on with: {again}")
        return 130
    except Exception as error:
        if os.environ.get("FLUXLIGHT_DEBUG"):
            raise
        from fluxlight.cli import one_line

        say(f"sweep: {one_line(error)}")
        return 2


def run(given: argparse.Namespace) -> int:
    """Everything behind the arguments."""
    config = read_sweep(given.sweep)
    if given.jobs < 1:
        raise ValueError(f"jobs is {given.jobs}: at least 1 is needed")
    source, out = Source(given.source.resolve()), given.out.resolve()
    check_out(out, source.path)
    cap = 2 if given.smoke else given.cap or config.get("run_cap")
    if cap is None and config["method"] != "grid":
        raise ValueError(f"{given.sweep}: a {config['method']} search has no end of its own: give --cap or run_cap")
    trials = Trials(out / "sweeps" / config["name"], source.path, config, hash_of(config)[:8])
    # a second runner would start what this one is running, find its folder in use and call it failed
    taken = claim(trials.folder)
    trials.load(given.retry)
    say(f"{config['name']}: {len(trials.ended)} trials there already")
    for trial in trials.waiting:
        if not trials.is_free(trial):
            say(f"  {trial.id} is still at work for a runner that was killed: waiting for it")
    stopping = bool(config.get("early_terminate"))
    try:
        while True:
            while len(trials.running) < given.jobs and (drawn := draw(config, trials, cap, given.seed)):
                trials.start(drawn)
                say(f"  {drawn.id} starts: {drawn.said}")
            if not trials.running and not trials.waiting:
                break
            time.sleep(POLL)
            for trial in trials.poll():
                say(f"  {trial.id} {trial.state} after {trial.seconds:.0f} s, {trial.outcome(config)}")
            if stopping:
                trials.stop_behind()
    finally:
        trials.interrupt()
        taken.release()
    failed = [trial for trial in trials.all if trial.state == "failed"]
    for trial in failed:
        say(f"  {trial.id} failed: {trial.why} (log: {trials.folder / trial.id / 'log.txt'})")
    if not given.no_table:
        from experiments.sweep_table import collect

        say(collect(trials, source, out, say))
    return 1 if failed else 0


def draw(config: dict[str, Any], trials: Trials, cap: int | None, seed: int) -> Trial | None:
    """What to start next: a trial that was stopped half way, else the search's next; None when there is none.

    A trial that outlives a killed runner has its folder; it is waited for, and then found done.
    """
    for trial in trials.waiting:
        if trials.is_free(trial):
            trials.waiting.remove(trial)
            return trial
    if trials.waiting:
        return None
    if cap is not None and len(trials.all) >= cap:
        return None
    # Bayesian search proposes by what has ended; what is running counts as pending
    parameters = next_trial(config, trials.all, seed)
    return None if parameters is None else trials.add(parameters)


def say(line: str) -> None:
    """One line on standard output, at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
