"""UpdatesBar: one bar over the whole run with the time left, one over what is rendered, and the numbers at the end."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar

from fluxlight.progress import Bar, note


class UpdatesBar(ProgressBar):
    """Progress of fit in updates, of validate and predict in batches of prompts.

    Lightning's own bars start anew each epoch and so cannot say how long a run will take.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bar: Bar | None = None
        self.inner: Bar | None = None
        self.enabled, self.measured = True, ""

    def disable(self) -> None:
        """Show nothing (other processes than the first)."""
        self.enabled = False

    def enable(self) -> None:
        """Show again."""
        self.enabled = True

    @property
    def is_enabled(self) -> bool:
        """Whether anything is shown; Lightning's checkpoints ask."""
        return self.enabled

    def _open(self, what: str, total: int | None, done: int = 0, unit: str = "update", leave: bool = True) -> Bar:
        return Bar(what, total, done, unit, leave, self.enabled)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar of the run where the checkpoint left it."""
        total = trainer.max_steps if trainer.max_steps > 0 else int(trainer.estimated_stepping_batches)
        self.bar = self._open(type(pl_module).__name__, total, int(trainer.global_step))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One update further."""
        moved = 0 if self.bar is None else int(trainer.global_step) - self.bar.n
        if self.bar is not None and moved > 0:
            loss = trainer.callback_metrics.get("train/loss")
            said = [self.measured] if loss is None else [f"loss {float(loss):.4f}", self.measured]
            self.bar.say("  ".join(filter(None, said)))
            self.bar.update(moved)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar of the run."""
        self._close("bar")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave a clean line for the error."""
        self._close("bar")
        self._close("inner")

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Open the bar of the rendering, if this validation renders; what judges validate is over in a moment."""
        if getattr(pl_module, "render_due", False):
            total, fit = _batches(trainer.num_val_batches), trainer.state.fn == "fit"
            self.inner = self._open("rendering the slice", total, unit="batch", leave=not fit)

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """One batch of prompts further."""
        if self.inner is not None:
            self.inner.update()

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Close the bar and say what was measured."""
        self._close("inner")
        found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        line = "  ".join(f"{k} {v:.4f}" for k, v in sorted(found.items()))
        if found and self.enabled and getattr(pl_module, "render_due", trainer.state.fn != "fit"):
            self.write(f"update {int(trainer.global_step)}: {line}")
        elif self.bar is not None and not hasattr(pl_module, "render_due"):
            self.measured = line

    def on_predict_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Open the bar of the candidates."""
        self.inner = self._open("drawing candidates", _batches(trainer.num_predict_batches), unit="batch")

    def on_predict_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """One batch of candidates further."""
        if self.inner is not None:
            self.inner.update()

    def on_predict_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Close the bar."""
        self._close("inner")

    def write(self, line: str) -> None:
        """A line above the bars."""
        note(line)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Lightning's print, above the bars."""
        self.write(" ".join(str(a) for a in args))

    def _close(self, name: str) -> None:
        bar: Bar | None = getattr(self, name)
        if bar is not None:
            bar.close()
            setattr(self, name, None)


def _batches(counts: Any) -> int | None:
    total = sum(counts) if isinstance(counts, list) else counts
    return None if total == float("inf") else int(total)
