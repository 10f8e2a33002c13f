"""Run costs: ``costs.json`` of a run folder says what its weights cost, and those of the runs they stand on."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning as L

from fluxlight.files.costs import Cost, read_costs, write_costs
from fluxlight.types import Batch, PairBatch


class RunCosts:
    """Counts a fit or a predict; a run that goes on adds to what it has counted.

    Seconds are those of the whole call on its machine, renderings and guards included, up to the last checkpoint that
    was written; clips those that were trained on (both of a pair) or drawn (rollouts too), once for each time.
    """

    def __init__(self) -> None:
        self.cost: Cost = {}
        self.before: list[Cost] = []
        self.since, self.earlier, self.per_update = 0.0, 0.0, 0

    def begin(self, trainer: L.Trainer, stage: Any, goes_on: bool) -> None:
        """Start the clock, and find what the run stands on: its starting weights and the clips chosen for it."""
        run, data = Path(trainer.default_root_dir), getattr(trainer, "datamodule", None)
        sources = [Path(path).parent for path in (getattr(data, "experts", None), getattr(data, "pairs", None))
                   if isinstance(path, str)]  # fmt: skip
        start = getattr(stage, "init_from", None)
        sources = ([Path(start).parent] if start else []) + sources
        self.before = [cost for source in sources for cost in read_costs(source)]
        name = "candidates" if trainer.state.fn == "predict" else type(stage).__name__
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.cost = {"stage": name, "begun": now, "updates": 0, "clips": 0, "seconds": 0.0}
        known = read_costs(run)
        if goes_on and known and known[-1]["stage"] == name:
            self.cost = known[-1]
        self.since, self.earlier = time.monotonic(), float(self.cost["seconds"])

    def saw(self, batch: Any) -> None:
        """Learn how many clips a batch has; of what is no batch of clips nothing is counted."""
        if isinstance(batch, PairBatch):
            self.per_update = 2 * len(batch.winner.mean)
        elif isinstance(batch, Batch):
            self.per_update = len(batch.mean)

    def trained(self, trainer: L.Trainer) -> None:
        """Write what has been trained so far."""
        updates = int(trainer.global_step)
        if self.per_update:
            seen = updates * self.per_update * trainer.accumulate_grad_batches * trainer.world_size
            self.cost["clips"] = seen + getattr(trainer.lightning_module, "clips_drawn", 0)
        self._write(trainer, updates=updates)

    def drawn(self, trainer: L.Trainer, clips: int) -> None:
        """Write how many candidates there are."""
        self._write(trainer, clips=clips)

    def handed_on(self, trainer: L.Trainer) -> None:
        """Write the costs of weights that were rendered as they are (validate)."""
        if trainer.is_global_zero and self.before and not read_costs(trainer.default_root_dir):
            write_costs(trainer.default_root_dir, self.before)

    def _write(self, trainer: L.Trainer, **counts: int) -> None:
        if self.cost and trainer.is_global_zero:
            self.cost |= {**counts, "seconds": round(self.earlier + time.monotonic() - self.since, 2)}
            write_costs(trainer.default_root_dir, [*self.before, self.cost])
