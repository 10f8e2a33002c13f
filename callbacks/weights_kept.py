"""WeightsKept: the weights that a guarded run falls back on, in memory and as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from safetensors.torch import load_file, save_file
from torch import Tensor

from fluxlight.files import atomic_path


class WeightsKept:
    """A copy of a stage's weights, the averaged ones of its run beside them.

    Args:
        folder: where ``kept.safetensors`` is.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "kept.safetensors"
        self.raw: dict[str, Tensor] = {}
        self.averaged: dict[str, Tensor] = {}

    def take(self, trainer: L.Trainer, stage: Any, update: int) -> None:
        """Copy the weights as they are; the first process writes them."""
        average = _average(trainer)
        self.raw, self.averaged = _copy(stage.model), {} if average is None else _copy(average)
        if trainer.is_global_zero:
            both = {f"raw.{name}": value for name, value in self.raw.items()}
            both |= {f"averaged.{name}": value for name, value in self.averaged.items()}
            with atomic_path(self.path) as temporary:
                save_file(both, temporary, {"update": str(update)})

    def load(self) -> None:
        """Read what an earlier call of the run has kept."""
        for name, value in load_file(self.path).items():
            which, _, own = name.partition(".")
            (self.raw if which == "raw" else self.averaged)[own] = value

    def give(self, trainer: L.Trainer, stage: Any) -> None:
        """Put the weights back."""
        stage.model.load_state_dict(self.raw)
        average = _average(trainer)
        if average is not None and self.averaged:
            average.load_state_dict(self.averaged)


def _average(trainer: L.Trainer) -> Any:
    """The averaged model of a run, or None."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging) and callback._average_model is not None:
            return callback._average_model.module.model
    return None


def _copy(model: Any) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
