"""Anchored: a stage that is held to the weights it started from."""

from __future__ import annotations

from typing import Any

from fluxlight.stages.base import Stage
from fluxlight.stages.frozen_copy import FrozenCopy

KEY = "reference"
"""Where a checkpoint keeps the reference."""


class Anchored(Stage):
    """A `Stage` with a frozen copy of its starting weights as ``reference``.

    A run that goes on makes the copy anew from ``init_from``; where there is none, the checkpoint holds it.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.reference = FrozenCopy()

    def setup(self, stage: str) -> None:
        """Freeze the reference: here the weights are still the starting ones, a checkpoint is loaded later."""
        super().setup(stage)
        if stage == "fit":
            self.reference.take(self.model)

    def on_fit_start(self) -> None:
        """Bring the reference to the policy's device."""
        self.reference.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep a reference that nothing else could give back."""
        super().on_save_checkpoint(checkpoint)
        if self.init_from is None:
            checkpoint[KEY] = self.reference.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the reference of the run that goes on."""
        super().on_load_checkpoint(checkpoint)
        if KEY in checkpoint:
            self.reference.restore(checkpoint[KEY])
