"""What a run leaves: the last checkpoint, to go on from, and the bundle, to hand on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging

from callbacks.render_slice import refuse_averaging_before
from fluxlight import bundle
from fluxlight.files import atomic_path


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` into the run folder at the end of every ``every``-th epoch and of the last, atomically.

    It runs after the other callbacks (Lightning moves checkpoints to the end), so a finished ``last.ckpt`` means that
    rendering and bundle of that step are on disk too.

    Args:
        every: epochs between two checkpoints.
        name: of the file.
    """

    def __init__(self, every: int = 1, name: str = "last.ckpt") -> None:
        super().__init__()
        self.every, self.name = every, name

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, if it is time."""
        if (trainer.current_epoch + 1) % self.every and not is_last(trainer):
            return
        path = Path(trainer.default_root_dir) / self.name
        if trainer.world_size > 1:
            # every process takes part in a distributed save, so the temporary name must be the same for all
            temporary = path.with_name(f".{path.name}.new")
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                temporary.replace(path)
            return
        with atomic_path(path) as temporary:
            trainer.save_checkpoint(temporary)


class BundleWriter(L.Callback):
    """Writes the model as a bundle into the run folder: after the last update of fit, or at the end of validate.

    Raw weights are what the next stage takes; averaged ones lie beside them when the run has an averaging callback.

    Args:
        folder: below the run folder.
    """

    def __init__(self, folder: str = "bundle") -> None:
        self.folder = folder

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check the order of callbacks."""
        refuse_averaging_before(trainer, self)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write after the last update, before the last checkpoint."""
        if is_last(trainer):
            self._write(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write after ``validate``, whose model may be new: weights of one head under another (cross-load)."""
        if trainer.state.fn == "validate":
            self._write(trainer, pl_module)

    def _write(self, trainer: L.Trainer, stage: Any) -> None:
        if not trainer.is_global_zero:
            return
        info: dict[str, Any] = {"stage": type(stage).__name__, "update": int(trainer.global_step), "seed": stage.seed}
        if stage.init_from:
            info["init_from"] = bundle.bundle_hash(stage.init_from)
        store = getattr(getattr(trainer, "datamodule", None), "store", None)
        if store is not None:
            info["identities"] = store.meta["identities"]
        bundle.save_bundle(Path(trainer.default_root_dir) / self.folder, stage.model, info, averaged(trainer))


def averaged(trainer: L.Trainer) -> dict[str, Any] | None:
    """Averaged weights of the model under its own names, or None without an averaging callback."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging) and callback._average_model is not None:
            prefix = "module.model."
            state = callback._average_model.state_dict()
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return None


def is_last(trainer: L.Trainer) -> bool:
    """True once the last update of the run is done."""
    return 0 < trainer.max_steps <= trainer.global_step or trainer.current_epoch + 1 == trainer.max_epochs
