"""SaveRunConfig: the parsed configuration of every run in its own folder; an earlier one is never overwritten."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger

from callbacks import run_facts
from callbacks.trackio_run import StageTrackioLogger
from fluxlight.files import write_text


class SaveRunConfig(SaveConfigCallback):
    """Writes ``config.yaml`` (of validate, test, predict: ``config-<verb>.yaml``) into the run folder.

    A second run in the same folder with the same configuration changes nothing; with another one it adds
    ``config-2.yaml`` and so on, so what made a checkpoint can always be read. Beside it ``run.json`` holds versions,
    revision, machine, seeds and checksums, and at the end measures and artefacts. Trackers get the configuration.
    """

    verb = ""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write once, on the first process; of a fit when nothing has refused it."""
        if trainer.state.fn != "fit":
            self._keep(trainer, stage)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write: settings, checkpoint and a rehearsed rendering are fine."""
        self._keep(trainer, "fit")

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

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep what was measured at this update."""
        if self.verb and trainer.is_global_zero and not trainer.sanity_checking:
            run_facts.measured(trainer, self.verb)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Keep what came of the run; not reached by one that was stopped."""
        if self.verb and trainer.is_global_zero:
            run_facts.end(trainer, self.verb)
