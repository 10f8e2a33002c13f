"""Facts: what the files around a bundle say of how its model was made and measured, for the model card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fluxlight.files import read_json


@dataclass(frozen=True)
class Measure:
    """One measured value of a model.

    Attributes:
        name: as table.json has it: fad, clap_b, reward_a.
        value, low, high: value and its 95 % interval.
        floor: the same distance between real and real, None for scores.
        optimised: True where the measure was used to train or select.
    """

    name: str
    value: float
    low: float
    high: float
    floor: float | None
    optimised: bool


@dataclass(frozen=True)
class Measured:
    """A row of an evaluation.

    Attributes:
        row: its name.
        loudness: how clips were levelled.
        frame: n, prompts, judges and seeds of the evaluation.
        reference: identity of the reference of the distances, "" without one.
        measures: the values.
    """

    row: str
    loudness: str
    frame: dict[str, Any]
    reference: str
    measures: list[Measure]


def read_measured(path: str | Path, checkpoint: str, row: str | None = None) -> Measured:
    """The row of a table.json that these weights made.

    Args:
        path: written by ``fluxlight evaluate``.
        checkpoint: hash of the weights.
        row: its name; needed where no row, or more than one, carries the hash.

    Raises:
        ValueError: no such row, a row of other weights, or a file that is no table.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"table {path} does not exist: give the table.json of `fluxlight evaluate`")
    found = read_json(path)
    try:
        table = next(iter(found["tables"].values()))
        systems, frame = table["systems"], found["frame"]
        made = {name: str((entry.get("info") or {}).get("checkpoint") or "") for name, entry in systems.items()}
    except (TypeError, KeyError, AttributeError, StopIteration):
        raise ValueError(f"{path} is no table.json of `fluxlight evaluate`: give that file") from None
    if row is None:
        own = [name for name, hash in made.items() if hash == checkpoint]
        if len(own) != 1:
            what = "no row" if not own else f"rows {', '.join(own)}"
            raise ValueError(
                f"{path}: {what} made by weights {checkpoint}: name the row with --row (there are {', '.join(made)})"
            )
        row = own[0]
    if row not in made:
        raise ValueError(f"{path} has no row {row!r}: it has {', '.join(made)}")
    if made[row] not in ("", checkpoint):
        raise ValueError(f"{path}: row {row!r} was made by weights {made[row]}, this model has {checkpoint}")
    optimised, entry, floor = set(frame.get("optimised") or ()), systems[row], table.get("floor") or {}
    measures = [
        Measure(name, v["value"], v["low"], v["high"], (floor.get(name) or {}).get("mean"), name in optimised)
        for name, v in (entry.get("distances") or {}).items()
    ]
    measures += [
        Measure(name, v["mean"], v["low"], v["high"], None, name in optimised)
        for name, v in entry["scores"].items()
    ]
    reference = str((table.get("reference") or {}).get("identity", ""))
    return Measured(row, str(table.get("loudness", "")), frame, reference, measures)


def read_training(bundle: Path) -> dict[str, Any]:
    """How the model was trained, from the config its run left beside the bundle; empty where there is none.

    Paths stay out: a card is read elsewhere.
    """
    fitted = _last(bundle.parent, "config")
    path = fitted or _last(bundle.parent, "config-validate")
    if path is None:
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        return {}
    model, data, trainer = (_args(config, key) for key in ("model", "data", "trainer"))
    optimizer: Any = model.get("optimizer")
    named = optimizer.get("class_path") if isinstance(optimizer, Mapping) else ""
    facts: dict[str, Any] = {"optimiser": str(named or "").rpartition(".")[2]}
    facts |= {name: _args(model, "optimizer").get(name) for name in ("lr", "betas", "weight_decay")}
    facts |= {name: model.get(name) for name in ("text_drop", "score_drop", "beta", "lambda_fm")}
    facts |= {name: trainer.get(name) for name in ("max_steps", "accumulate_grad_batches", "gradient_clip_val")}
    facts |= {"batch_size": data.get("batch_size"), "precision": trainer.get("precision")}
    seeds = {"seed_everything": config.get("seed_everything"), "draws": model.get("seed"), "rows": data.get("seed")}
    facts["seeds"] = {name: seed for name, seed in seeds.items() if seed is not None}
    store = _store(bundle, data.get("store"))
    facts["store"] = read_json(store).get("recipe") if store.is_file() else None
    if store.is_file():
        facts["clips"] = read_json(store).get("n")
    if fitted is None:
        # nothing was trained: weights of one model in another
        facts = {key: facts[key] for key in ("seeds", "store", "clips") if key in facts}
    return {name: value for name, value in facts.items() if value not in (None, "", {})}


def _last(run: Path, stem: str) -> Path | None:
    """The last of a run folder's ``<stem>.yaml``, ``<stem>-2.yaml`` ...: a run that went on may have another one."""
    found = {path.stem.removeprefix(stem) or "-1": path for path in run.glob(f"{stem}*.yaml")}
    numbered = {int(rest[1:]): path for rest, path in found.items() if re.fullmatch(r"-\d+", rest)}
    return numbered[max(numbered)] if numbered else None


def _store(bundle: Path, named: Any) -> Path:
    """meta.json of the training store; a run that was moved has it beside its stages."""
    places = (Path(str(named)), bundle.parent.parent / Path(str(named)).name)
    return next((p / "meta.json" for p in places if (p / "meta.json").is_file()), places[0] / "meta.json")


def _args(config: Any, key: str) -> Mapping[str, Any]:
    """Settings under ``key``, below its init_args where it has a class path."""
    found = config.get(key) if isinstance(config, Mapping) else None
    if isinstance(found, Mapping) and "class_path" in found:
        found = found.get("init_args")
    return found if isinstance(found, Mapping) else {}
