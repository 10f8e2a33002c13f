"""SaveRunConfig: the parsed configuration of every run in its own folder; an earlier one is never overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger

from callbacks import run_facts
from callbacks.run_costs import RunCosts
from callbacks.trackio_run import StageTrackioLogger
from fluxlight.clips.candidates import read_candidates
from fluxlight.files import write_text


class SaveRunConfig(SaveConfigCallback):
    """Writes ``config.yaml`` (of validate, test, predict: ``config-<verb>.yaml``) into the run folder.

    A second run in the same folder with the same configuration changes nothing; with another one it adds
    ``config-2.yaml`` and so on, so what made a checkpoint can always be read. Beside it ``run.json`` holds versions,
    revision, machine, seeds and checksums, and at the end measures and artefacts, and ``costs.json`` updates, clips and
    seconds of this stage and of those before it (`RunCosts`). Trackers get the nested configuration.
    """

    verb = ""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.costs = RunCosts()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write once, on the first process; of a fit when nothing has refused it."""
        if trainer.state.fn != "fit":
            self._keep(trainer, stage)
            self.costs.begin(trainer, pl_module, goes_on=True)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write: settings, checkpoint and a rehearsed rendering are fine."""
        self._keep(trainer, "fit")
        self.costs.begin(trainer, pl_module, bool(trainer.ckpt_path))

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Count its clips."""
        self.costs.saw(batch)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note what these weights cost, beside the checkpoint: equal runs have equal checkpoints."""
        self.costs.trained(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note what the whole fit cost."""
        self.costs.trained(trainer)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note what the candidates cost."""
        rows = read_candidates(Path(trainer.default_root_dir), missing_ok=True)
        self.costs.drawn(trainer, sum(not row.error for row in rows))

    def _keep(self, trainer: L.Trainer, stage: str) -> None:
        if self.already_saved or not trainer.is_global_zero:
            return
        self.already_saved = True
        text = self.parser.dump(self.config, skip_none=False, skip_link_targets=False)
        self.verb = verb = str(trainer.state.fn.value if trainer.state.fn else stage)
        stem, run = "config" if verb == "fit" else f"config-{verb}", Path(trainer.default_root_dir)
        number, path = 1, run / f"{stem}.yaml"
        while path.exists():
            if path.read_text(encoding="utf-8") == text:
                break
            number += 1
            path = run / f"{stem}-{number}.yaml"
        else:
            write_text(path, text)
        settings = yaml.safe_load(text)
        run_facts.begin(trainer, verb, settings)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger | StageTrackioLogger):
                logger.log_hyperparams(settings)

    def lacks(self, folder: str, updates: int) -> bool:
        """True where a run was stopped after its last checkpoint, before it said what came of it."""
        return run_facts.unfinished(folder)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep what was measured at this update."""
        if self.verb and trainer.is_global_zero and not trainer.sanity_checking:
            run_facts.measured(trainer, self.verb)
        if trainer.state.fn == "validate":
            self.costs.handed_on(trainer)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Keep what came of the run; not reached by one that was stopped."""
        if self.verb and trainer.is_global_zero:
            run_facts.end(trainer, self.verb)
