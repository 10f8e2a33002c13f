"""Course: where a run is and where it ends, as functions of the updates done and of nothing that a loop counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import GradientAccumulationScheduler


def batches_done(trainer: L.Trainer) -> int:
    """Batches of the run before the update that is being made: the place in the stream."""
    return int(trainer.global_step) * trainer.accumulate_grad_batches


def overfits(trainer: L.Trainer) -> bool:
    """True when the run is to see the same few batches again and again."""
    return bool(trainer.overfit_batches)  # type: ignore[attr-defined]


def whole_epoch(trainer: L.Trainer, batches: int) -> int:
    """Batches of an epoch that is to have ``batches``: a shorter run has fewer."""
    return min(batches, trainer.max_steps * trainer.accumulate_grad_batches) if trainer.max_steps > 0 else batches


def epoch_length(trainer: L.Trainer, batches: int) -> int:
    """`whole_epoch`, or less where the trainer is told to limit it.

    Raises:
        ValueError: the limit leaves none.
    """
    whole, limit = whole_epoch(trainer, batches), trainer.limit_train_batches
    length = int(whole * limit) if isinstance(limit, float) else min(whole, limit)
    if length < 1:
        name = "overfit_batches" if overfits(trainer) else "limit_train_batches"
        raise ValueError(f"trainer.{name} is {limit} of {whole} batches, which is none: give a larger share")
    return length


def updates(trainer: L.Trainer, batches: int) -> int:
    """Updates of the whole run.

    Args:
        trainer: of the run.
        batches: of an epoch (`epoch_length`).
    """
    ends = [trainer.max_steps] if trainer.max_steps >= 0 else []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        ends.append(trainer.max_epochs * batches // trainer.accumulate_grad_batches)
    if not ends:
        raise ValueError("trainer.max_steps is -1 and so is max_epochs: the run would never end; give one of them")
    return min(ends)


def is_last(trainer: L.Trainer) -> bool:
    """True once the last update of the run is done, or a guard has ended it; asked when a batch has ended, or later."""
    if getattr(getattr(trainer, "lightning_module", None), "kept", None) is not None:
        return True
    if 0 <= trainer.max_steps <= trainer.global_step:
        return True
    epochs = trainer.max_epochs or 0
    return epochs > 0 and batches_done(trainer) >= epochs * trainer.num_training_batches


def check(trainer: L.Trainer, batches: int) -> None:
    """Refuse settings under which the place in the stream would be no function of the updates done.

    Args:
        trainer: of the run.
        batches: of an epoch, ``data.batches_per_epoch``.
    """
    accumulate = trainer.accumulate_grad_batches
    if accumulate < 1:
        raise ValueError(f"trainer.accumulate_grad_batches is {accumulate}: an update has at least 1 batch")
    if any(isinstance(c, GradientAccumulationScheduler) for c in trainer.callbacks):  # type: ignore[attr-defined]
        raise ValueError(
            "trainer.callbacks has a GradientAccumulationScheduler: a run that goes on could not find its place; "
            "set trainer.accumulate_grad_batches"
        )
    if getattr(trainer, "_val_check_time_interval", None) is not None:
        raise ValueError("trainer.val_check_interval is a time: say model.render_every, in updates")
    if trainer.max_steps == 0 or trainer.max_epochs == 0:
        name = "max_steps" if trainer.max_steps == 0 else "max_epochs"
        raise ValueError(f"trainer.{name} is 0: nothing would be trained; give at least 1")
    length, whole = epoch_length(trainer, batches), whole_epoch(trainer, batches)
    total = updates(trainer, length) * accumulate
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    if length % accumulate:
        said = f"data.batches_per_epoch {length}" if length == whole else f"the limited epoch of {length} batches"
        raise ValueError(
            f"{said} is no multiple of trainer.accumulate_grad_batches {accumulate}: "
            "an update would end early with the epoch; change one of them"
        )
    if length == whole and trainer.max_steps > 0 and total % length:
        raise ValueError(
            f"trainer.max_steps x accumulate_grad_batches is {trainer.max_steps * accumulate}, "
            f"no multiple of data.batches_per_epoch {length}: "
            "the run would end between two checkpoints; change one of them"
        )


def put(loops: dict[str, Any], done: int, length: int, accumulate: int) -> None:
    """Set the counters of a checkpoint to ``done`` batches, whatever the loop had counted when it was written.

    Lightning's own state depends on when within an epoch it was written and on whether a validation stood there; from
    some of them it trains a batch twice (lightning 2.6).

    Args:
        loops: ``checkpoint["loops"]``.
        done: batches.
        length: batches of an epoch in the run that goes on.
        accumulate: batches of an update.
    """
    state = loops["fit_loop"]
    epochs, within = divmod(done, length)
    begun = epochs + (within > 0)
    updates, inner = done // accumulate, within // accumulate
    state["epoch_loop.batch_progress"] = {**_progress(done, within), "is_last_batch": False}
    state["epoch_loop.scheduler_progress"] = _progress(updates, inner, ("ready", "completed"))
    step = _progress(updates, inner, ("ready", "completed"))
    zero = _progress(updates, inner, ("ready", "started", "completed"))
    state["epoch_loop.automatic_optimization.optim_progress"] = {"optimizer": {"step": step, "zero_grad": zero}}
    epoch = {"ready": begun, "started": begun, "processed": epochs, "completed": epochs}
    state["epoch_progress"] = {"total": dict(epoch), "current": dict(epoch)}
    state["epoch_loop.val_loop.batch_progress"] = {**_progress(0, 0), "is_last_batch": False}
    state["epoch_loop.state_dict"] = {"_batches_that_stepped": updates}


def _progress(
    total: int, current: int, names: Sequence[str] = ("ready", "started", "processed", "completed")
) -> dict[str, Any]:
    return {"total": dict.fromkeys(names, total), "current": dict.fromkeys(names, current)}
