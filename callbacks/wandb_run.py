"""wandb: a logger whose runs are named after what they are and go on where they stopped, and what there is to hear."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from callbacks.tracker import COLUMNS, Rendering, TrackerMedia, describe
from fluxlight.files import hash_of

DATA = "WANDB_DATA_DIR"


def run_id(what: Sequence[str], folder: Path, going_on: bool) -> str:
    """Eight hexadecimal digits for run number k of ``what``: the last whose files lie in ``folder/wandb``, or the next.

    wandb names the folder of a run ``[offline-]run-<time>-<id>``, so nothing of our own has to remember the ids.
    """
    there = {path.name.rsplit("-", 1)[-1] for path in (folder / "wandb").glob("*run-*")}
    ids = (hash_of([*what, k])[:8] for k in count())
    mine = list(takewhile(there.__contains__, ids))
    return mine[-1] if mine and going_on else hash_of([*what, len(mine)])[:8]


class StageWandbLogger(WandbLogger):
    """`WandbLogger` that waits for the configuration before it opens a run.

    The id is a hash of run folder, name, job and a count: a run that goes on (``--ckpt_path last``) continues the last
    wandb run that lies in its folder, any other opens the next one, so two runs in one folder never write into each
    other. ``WANDB_RUN_ID``, which a sweep agent sets, wins.

    Args:
        save_dir: run folder, where ``wandb/`` is kept.
        project: wandb project.
        offline: keep the run here; ``wandb sync`` uploads it later.
        name, group, id: given ones win over those made from the configuration.
        settings: anything else `WandbLogger` takes.
    """

    _own = ""

    def __init__(
        self, save_dir: str = ".", project: str = "fluxlight", offline: bool = False, name: str | None = None,
        group: str | None = None, id: str | None = None, **settings: Any,
    ) -> None:  # fmt: skip
        super().__init__(name=name, save_dir=save_dir, offline=offline, id=id, project=project, **settings)
        self._wandb_init["group"] = group
        self._waiting = True

    @property
    def experiment(self) -> Any:
        """The wandb run; there is none yet while the configuration is awaited."""
        if self._waiting:
            # Lightning asks `hasattr(logger, "experiment")` before any callback is set up, which would open the run
            # before anything is known of it
            raise AttributeError("the wandb run opens with the first configuration or measure")
        return super().experiment

    def log_hyperparams(self, params: Any) -> None:
        """Open the run under its name, then log the configuration."""
        if self._experiment is None and isinstance(params, Mapping) and "trainer" in params:
            self._introduce(params)
        self._waiting = False
        super().log_hyperparams(params)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log measures; without a configuration the run opens here."""
        self._waiting = False
        super().log_metrics(metrics, step)

    def _introduce(self, config: Mapping[str, Any]) -> None:
        said, settings = describe(config), self._wandb_init
        settings["name"] = settings.get("name") or said["name"]
        settings["group"] = settings.get("group") or said["group"]
        settings["tags"] = sorted({*(settings.get("tags") or []), said["tag"]})
        settings["job_type"] = "fit" if "ckpt_path" in config and "verbose" not in config else "measure"
        folder = Path(str(config["trainer"]["default_root_dir"]))
        going_on = bool(config.get("ckpt_path")) and settings["job_type"] == "fit"
        if os.environ.get(DATA, StageWandbLogger._own) == StageWandbLogger._own:
            # what wandb stages for later uploads belongs to the run too, and not into the user's home
            StageWandbLogger._own = os.environ[DATA] = str((folder / "wandb" / "data").resolve())
        what = [str(folder.resolve()), settings["name"], settings["job_type"]]
        id = settings.get("id") or os.environ.get("WANDB_RUN_ID") or run_id(what, Path(settings["dir"]), going_on)
        settings["id"] = self._id = id

    def finalize(self, status: str) -> None:
        """Close the run with the stage: the next stage of this process opens its own."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)
            self._experiment = None


class WandbMedia(TrackerMedia):
    """See `TrackerMedia`."""

    logger = WandbLogger

    def send(self, logger: Any, said: Rendering) -> None:
        """Tell one logger."""
        import wandb

        clips = wandb.Table(columns=[*COLUMNS], data=said.table)
        # not inside the table: wandb would keep the files of a table's audio outside the run
        logger.log_audio("slice/audio", said.audio, said.step, caption=said.captions)
        logger.log_metrics({"slice/clips": clips, "slice/page": wandb.Html(said.page, inject=False)}, said.step)
