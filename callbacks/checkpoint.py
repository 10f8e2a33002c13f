"""What a run leaves: the last checkpoint, to go on from, and the bundle, to hand on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from torch import Tensor

from callbacks.render_slice import RenderSlice, refuse_averaging_before, weights_hash
from fluxlight import bundle
from fluxlight.clips.candidates import read_candidates
from fluxlight.data import course
from fluxlight.files import atomic_path, put_link
from fluxlight.stages import Stage
from fluxlight.stages.seal import PREVIOUS, seal, whole

MEASURES = "measures"
"""Where a checkpoint keeps what had been measured."""


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` into the run folder after every ``every``-th epoch and after the last update, atomically.

    A stage's is written before the slice is rendered, so that no rendering, however it ends, costs updates; a run that
    goes on from its end makes what is still missing. It runs after the other callbacks of its hook (Lightning moves
    checkpoints to the end), so an average has its update. The checkpoint before stays as ``previous.ckpt``: should a
    machine fail in a way that cuts ``last.ckpt`` short, a run goes on from there.

    Args:
        every: epochs between two checkpoints.
        name: of the file.
    """

    def __init__(self, every: int = 1, name: str = "last.ckpt") -> None:
        super().__init__()
        self.every, self.name, self._saved = every, name, -1
        self._own = False  # the last checkpoint is of this process, and so is whole
        self._measures: dict[str, Tensor] = {}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what has been measured: a run that goes on from its end has no update that measures again."""
        # a stage renders behind its checkpoint: what is kept must not depend on whether a rendering was before it
        late = isinstance(pl_module, Stage)
        checkpoint[MEASURES] = {
            name: value.detach().cpu().clone()
            for name, value in sorted(trainer.callback_metrics.items())
            if not (late and name.startswith("val/"))
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember what had been measured."""
        self._measures = dict(checkpoint.get(MEASURES, {}))

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put back what had been measured; Lightning clears it after it has loaded."""
        trainer.callback_metrics.update(self._measures)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after the update that ends an epoch, or the run, before anything is rendered."""
        if not isinstance(pl_module, Stage) or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        done, length = course.batches_done(trainer), int(trainer.num_training_batches)
        if course.is_last(trainer) or (done % length == 0 and done // length % self.every == 0):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save a module that is no stage, and a run that stops early."""
        due = (trainer.current_epoch + 1) % self.every == 0 or course.is_last(trainer) or trainer.should_stop
        if due and self._saved != trainer.global_step:
            self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        self._saved = int(trainer.global_step)
        path = Path(trainer.default_root_dir) / self.name
        if trainer.world_size > 1:
            # every process takes part in a distributed save, so the temporary name must be the same for all
            temporary = path.with_name(f".{path.name}.new")
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                seal(temporary)
                self._keep(path)
                temporary.replace(path)
            return
        with atomic_path(path) as temporary:
            trainer.save_checkpoint(temporary)
            seal(temporary)
            self._keep(path)

    def _keep(self, path: Path) -> None:
        """Keep what the new checkpoint replaces; a damaged one would cost the good one before it."""
        if path.is_file() and (self._own or whole(path)):
            put_link(path, path.with_name(PREVIOUS))
        self._own = True


class BundleWriter(L.Callback):
    """Writes the model as a bundle into the run folder: after the last update of fit, or at the end of validate.

    Raw weights are what the next stage takes; averaged ones lie beside them when the run has an averaging callback.

    Args:
        folder: below the run folder.
    """

    def __init__(self, folder: str = "bundle") -> None:
        self.folder = folder

    _written = -1

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check the order of callbacks."""
        refuse_averaging_before(trainer, self)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Render what a run that had stopped in a rendering still lacks."""
        render = next((c for c in trainer.callbacks if isinstance(c, RenderSlice)), None)  # type: ignore[attr-defined]
        if render and trainer.global_step and getattr(pl_module, "render_due", False):
            rows = read_candidates(Path(trainer.default_root_dir) / render.folder, missing_ok=True)
            if not rows or rows[0].extra.get("step") != trainer.global_step:
                render_now(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write after the last update."""
        if course.is_last(trainer):
            self._write(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Render and write what a run that had stopped after its last update still lacks."""
        if self._written != trainer.global_step and trainer.global_step and course.is_last(trainer):
            render_now(trainer, pl_module)
            self._write(trainer, pl_module)

    def lacks(self, folder: str, updates: int) -> bool:
        """True when the run folder has no bundle of a run of ``updates``."""
        path = Path(folder) / self.folder
        return not _is_whole(path) or bundle.read_recipe(path)["info"].get("update", -1) < updates

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Refuse to ``validate`` other weights where a fit has left its bundle and slice."""
        folder = Path(trainer.default_root_dir) / self.folder
        if trainer.state.fn == "validate" and self._of_a_fit(folder):
            theirs = {str(value) for value in bundle.read_recipe(folder)["hash"].values()}
            if weights_hash(pl_module.model) not in theirs:
                raise ValueError(
                    f"{folder} is of a fit and these are other weights, whose slice would replace its: "
                    "choose another --trainer.default_root_dir"
                )

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write after ``validate``, whose model may be new: weights of one head under another (cross-load)."""
        if trainer.state.fn == "validate" and not self._of_a_fit(Path(trainer.default_root_dir) / self.folder):
            self._write(trainer, pl_module)

    @staticmethod
    def _of_a_fit(folder: Path) -> bool:
        return _is_whole(folder) and bundle.read_recipe(folder)["info"].get("update", 0) > 0

    def _write(self, trainer: L.Trainer, stage: Any) -> None:
        self._written = int(trainer.global_step)
        if not trainer.is_global_zero:
            return
        info: dict[str, Any] = {"stage": type(stage).__name__, "update": int(trainer.global_step), "seed": stage.seed}
        if getattr(stage, "kept", None) is not None:
            info["kept"] = stage.kept  # a guard ended the run: these are the weights of that update
        if stage.init_from:
            info["init_from"] = bundle.bundle_hash(stage.init_from)
        store = getattr(getattr(trainer, "datamodule", None), "store", None)
        if store is not None:
            info["identities"] = store.meta["identities"]
        bundle.save_bundle(Path(trainer.default_root_dir) / self.folder, stage.model, info, averaged(trainer))


def _is_whole(folder: Path) -> bool:
    """Whether a bundle was written to its end: one that a kill cut short has weights and no recipe."""
    return (folder / bundle.RECIPE).is_file()


def averaged(trainer: L.Trainer) -> dict[str, Any] | None:
    """Averaged weights of the model under its own names, or None without an averaging callback."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging) and callback._average_model is not None:
            prefix = "module.model."
            state = callback._average_model.state_dict()
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return None


def render_now(trainer: L.Trainer, stage: L.LightningModule) -> None:
    """Render the slice outside the loop of training, as a validation within it does."""
    if not trainer.enable_validation:
        return
    # the end of a fit takes the model off its device
    stage.to(trainer.strategy.root_device)
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True
