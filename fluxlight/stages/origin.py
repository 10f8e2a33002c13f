"""Origin: what a checkpoint was trained as, so that no run goes on from another's by mistake."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch.nn import Parameter
from torch.optim import Optimizer

from fluxlight import bundle
from fluxlight.data.sft import SFTData
from fluxlight.model import FluxModel

Origin = dict[str, Any]
"""Setting, as its user calls it -> value."""
NAMELESS = "none"
"""The stream of draws without a name."""


def of_model(model: FluxModel) -> Origin:
    """Class and settings of backbone and head, and how much of them is trained."""
    said: Origin = {"model.head": "null", "number of tensors by model.train_only": len(trainable(model))}
    for part, value in (("backbone", model.backbone), ("head", model.head)):
        if value is not None:
            said[f"model.{part}"] = type(value).__name__
            settings = {k: v for k, v in value.init_args.items() if isinstance(v, bool | int | float | str)}
            said |= {f"model.{part}.{name}": setting for name, setting in settings.items()}
    return said


def of_data(data: SFTData, trainer: L.Trainer) -> Origin:
    """Content of what is trained on, the order of its rows, and how many make an update."""
    return {
        "data.seed": data.seed,
        "data.stream": data.stream or NAMELESS,
        "data.batch_size x devices": data.batch_size * trainer.world_size,
        "trainer.accumulate_grad_batches": trainer.accumulate_grad_batches,
        **{f"content of data.{name}": checksum for name, checksum in data.content().items()},
    }


def of_start(init_from: str | None, weights: bundle.Which) -> Origin:
    """The weights that a run began with."""
    return {"content of model.init_from": bundle.bundle_hash(init_from, weights) if init_from else "null"}


def averaging(trainer: L.Trainer) -> str:
    """The averaging callback of a run, with its profile; "none" without one."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging):
            gamma = getattr(callback, "gamma", None)
            return type(callback).__name__ + ("" if gamma is None else f"({gamma:g})")
    return "none"


def refuse_another(checkpoint: dict[str, Any], said: Origin, now: Origin, path: str) -> None:
    """Refuse to go on from a checkpoint of another origin; a setting that either does not know is not compared.

    Args:
        checkpoint: as it was loaded.
        said: the origin it holds; empty in one from before there were any. Where it names no stream, it had none.
        now: the origin of the run that is to go on.
        path: of the checkpoint.
    """
    average, mine = "averaging in trainer.callbacks", "current_model_state" in checkpoint
    if average not in said and mine != (now[average] != "none"):
        said = {**said, average: "an average" if mine else "none"}
    if said:
        said = {"model.stream": NAMELESS, "data.stream": NAMELESS, **said}
    both = [name for name in said if name in now and said[name] != now[name]]
    differs = [f"{name} was {said[name]} and is {now[name]}" for name in both]
    if differs:
        raise ValueError(
            f"checkpoint {path} is of another run: {'; '.join(differs)}: set it back, "
            "or start anew in another trainer.default_root_dir"
        )


def renew_optimizer(checkpoint: dict[str, Any], fresh: Optimizer, factor: float) -> list[str]:
    """Put the settings of today's optimiser into the state of a checkpoint.

    The moments stay. Lightning alone would bring back the settings of then, whatever the configuration says.

    Args:
        checkpoint: as it was loaded.
        fresh: the optimiser as the configuration makes it.
        factor: of its rate at the update that comes next.

    Returns:
        What changes, by name.
    """
    changes: dict[str, str] = {}
    groups = checkpoint["optimizer_states"][0]["param_groups"]
    for saved, new in zip(groups, fresh.param_groups, strict=True):
        for name, value in new.items():
            then = saved.get("initial_lr" if name == "lr" else name)
            if name in ("params", "initial_lr"):
                continue
            if then != (list(value) if isinstance(then, list) else value):
                changes[name] = f"{name} {value} (was {then})"
            saved[name] = value
        saved["initial_lr"], saved["lr"] = new["lr"], new["lr"] * factor
    for schedule in checkpoint["lr_schedulers"]:
        schedule["base_lrs"] = [group["initial_lr"] for group in groups]
        schedule["_last_lr"] = [group["lr"] for group in groups]
    return list(changes.values())


def forget_clock(checkpoint: dict[str, Any]) -> None:
    """Let ``trainer.max_time`` count from this start: a run whose time was up would never go on."""
    callbacks = checkpoint.get("callbacks", {})
    for name in [name for name in callbacks if name.startswith("Timer")]:
        del callbacks[name]


def trainable(model: FluxModel) -> list[Parameter]:
    """What is trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
