"""UpdatesBar: one bar over the whole run with the time left, one over what is rendered, and the numbers at the end."""

from __future__ import annotations

import sys
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar


class UpdatesBar(ProgressBar):
    """Progress of fit in updates, of validate and predict in batches of prompts.

    Lightning's own bars start anew each epoch and so cannot say how long a run will take.

    Args:
        interval: seconds between two lines where the output is no terminal (a log file).
    """

    def __init__(self, interval: float = 30.0) -> None:
        super().__init__()
        self.interval, self.bar, self.enabled = interval, None, True

    bar: Any

    def disable(self) -> None:
        """Show nothing (other processes than the first)."""
        self.enabled = False

    def enable(self) -> None:
        """Show again."""
        self.enabled = True

    def _open(self, what: str, total: int | None, done: int = 0, leave: bool = True) -> Any:
        from tqdm import tqdm

        terminal = sys.stderr.isatty()
        return tqdm(
            desc=what,
            total=total,
            initial=done,
            leave=leave,
            disable=not self.enabled,
            dynamic_ncols=terminal,
            ascii=not terminal,
            mininterval=0.2 if terminal else self.interval,
            smoothing=0.1,
        )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar of the run where the checkpoint left it."""
        total = trainer.max_steps if trainer.max_steps > 0 else int(trainer.estimated_stepping_batches)
        self.bar = self._open(type(pl_module).__name__, total, int(trainer.global_step))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One update further."""
        moved = int(trainer.global_step) - self.bar.n
        if moved > 0:
            loss = trainer.callback_metrics.get("train/loss")
            if loss is not None:
                self.bar.set_postfix(loss=f"{float(loss):.4f}", refresh=False)
            self.bar.update(moved)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar of the run."""
        self._close("bar")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave a clean line for the error."""
        self._close("bar")
        self._close("inner")

    inner: Any = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Open the bar of the rendering, if this validation renders."""
        if getattr(pl_module, "render_due", True):
            self.inner = self._open(
                "rendering the slice", _batches(trainer.num_val_batches), leave=trainer.state.fn != "fit"
            )

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """One batch of prompts further."""
        if self.inner is not None:
            self.inner.update()

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Close the bar and say what was measured."""
        self._close("inner")
        found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        if found and self.enabled and getattr(pl_module, "render_due", True):
            line = "  ".join(f"{k} {v:.4f}" for k, v in sorted(found.items()))
            self.write(f"update {int(trainer.global_step)}: {line}")

    def on_predict_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Open the bar of the candidates."""
        self.inner = self._open("drawing candidates", _batches(trainer.num_predict_batches))

    def on_predict_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """One batch of candidates further."""
        self.inner.update()

    def on_predict_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Close the bar."""
        self._close("inner")

    def write(self, line: str) -> None:
        """A line above the bars."""
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Lightning's print, above the bars."""
        self.write(" ".join(str(a) for a in args))

    def _close(self, name: str) -> None:
        if getattr(self, name) is not None:
            getattr(self, name).close()
            setattr(self, name, None)


def _batches(counts: Any) -> int | None:
    total = sum(counts) if isinstance(counts, list) else counts
    return None if total == float("inf") else int(total)
