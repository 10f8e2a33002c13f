"""Trial: one run of a sweep, as ``wandb agent`` and the local runner start it: a stage with other settings.

``python -m experiments.trial --like=row1 --config=configs/heads/input_add.yaml --seed_everything=43``

FLUXLIGHT_CHAIN names the chain's run folder, FLUXLIGHT_SWEEP the folder of trials (runs/sweep/<WANDB_SWEEP_ID>),
WANDB_RUN_ID the trial.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from experiments.cells import source as chains
from experiments.cells.source import Source
from experiments.chain.numbers import ROOT
from experiments.sweeps.trials import Trial
from fluxlight.cli import told
from fluxlight.files import hash_of, read_json, write_json, write_text
from fluxlight.prompts import read_prompts

HALVED = 20
"""Prompts from which on a slice is halved: a FAD of fewer than ten clips says nothing (our choice)."""


def split(args: Sequence[str]) -> tuple[str, int, list[str]]:
    """The chain's step, how often to render, and the other words with the shipped configs found from anywhere."""
    like, renderings, rest = "row1", 1, []
    for word in args:
        key, sign, value = word.partition("=")
        if key == "--like" and sign:
            like = value
        elif key == "--renderings" and sign:
            if not value.isdigit() or int(value) < 1:
                raise ValueError(f"--renderings: {value!r} is no count: give a whole number of at least 1")
            renderings = int(value)
        elif key == "--config" and not Path(value).is_file() and (ROOT / value).is_file():
            rest.append(f"{key}={ROOT / value}")
        else:
            rest.append(word)
    return like, renderings, rest


def cadence(config: Mapping[str, Any], renderings: int) -> int:
    """Updates between two of about ``renderings`` renderings: whole epochs, whatever the scale; 0 for one at the end.

    The last update is rendered in any case.
    """
    if renderings == 1:
        return 0
    trainer, epoch = config["trainer"], int(config["data"]["init_args"]["batches_per_epoch"])
    accumulate = int(trainer.get("accumulate_grad_batches", 1))
    epochs = max(1, int(trainer["max_steps"]) * accumulate // epoch // renderings)
    return epochs * epoch // accumulate


def chosen_half(source: Source, words: Sequence[str]) -> str | None:
    """The half of the slice on which a trial is measured: the table of the sweep reports on the other one.

    None where the slice is too small to be halved; the table then says that it reports on what chose.
    """
    flag = "--data.slice_clips="
    values = [word.removeprefix(flag) for word in words if word.startswith(flag)]
    asked = [int(value) for value in values if value.isdigit()]  # what is none, the configuration refuses by its name
    there = len(read_prompts(source.place["slice"]))
    return "choose" if min([there, *asked[-1:]]) >= HALVED else None


def register(folder: Path, words: Sequence[str]) -> Trial | None:
    """Leave a record of a trial that an agent has started, as the local runner leaves one of its own; None there."""
    path = folder / "trial.json"
    if path.is_file():
        known = Trial(**read_json(path))
        return known if known.agent else None
    pairs = (word.lstrip("-").partition("=") for word in words)
    number = len(list(folder.parent.glob("*/trial.json")))
    trial = Trial(number, folder.name, {key: yaml.safe_load(value) for key, _, value in pairs}, agent=True)
    write_json(path, asdict(trial))
    return trial


def main(args: Sequence[str] | None = None) -> int:
    """Train, render and measure; the run folder is ``<FLUXLIGHT_SWEEP>/<WANDB_RUN_ID>``."""
    from fluxlight.cli import main as fluxlight

    chain = os.environ.get("FLUXLIGHT_CHAIN")
    if not chain:
        print("trial: FLUXLIGHT_CHAIN is not set: give the run folder of a finished chain", file=sys.stderr)
        return 2
    words = list(sys.argv[1:] if args is None else args)
    try:
        like, renderings, rest = split(words)
    except ValueError as error:
        print(f"trial: {error}", file=sys.stderr)
        return 2
    id = os.environ.get("WANDB_RUN_ID") or hash_of([like, renderings, rest])[:8]
    home = os.environ.get("FLUXLIGHT_SWEEP") or Path("runs") / "sweep" / (os.environ.get("WANDB_SWEEP_ID") or "single")
    folder = (Path(home) / id).resolve()
    config = Source(Path(chain).resolve()).config(like)
    # the recipes tie the three seeds together, and a flag must find them tied
    chains.seed(config, "${seed_everything}")
    config["seed_everything"] = int(Source(Path(chain).resolve()).option(like, "seed_everything"))
    chains.move(config, str(folder))
    # a chain leaves the measuring to its table, but a trial is chosen by what its run measures
    config["data"].get("init_args", config["data"])["slice_measured"] = True
    config["model"]["init_args"]["render_every"] = cadence(config, renderings)
    chains.put_half(config, chosen_half(Source(Path(chain).resolve()), rest))
    write_text(folder / "trial.yaml", yaml.safe_dump({**config, "ckpt_path": "last"}, sort_keys=False))
    logger = ROOT / "configs" / "loggers" / "wandb.yaml"
    trial = register(folder, words)
    code = fluxlight(["fit", "--config", str(folder / "trial.yaml"), "--config", str(logger), *rest])
    if trial:
        write_json(folder / "trial.json", asdict(replace(trial, state="failed" if code else "finished")))
    return code


if __name__ == "__main__":
    sys.exit(told(main, "experiments.trial"))
