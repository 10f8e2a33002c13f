"""Trackio: a tracker without an account; runs lie in one database of the cache folder, ``trackio show`` opens them."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from callbacks.tracker import COLUMNS, Rendering, TrackerMedia, describe
from fluxlight.files import cache_folder

FOLDER = "TRACKIO_DIR"
"""Variable that says where trackio keeps everything; read once, when trackio is imported."""


class StageTrackioLogger(Logger):
    """Logs a stage to trackio under the keys of the other loggers.

    A run is named after stage, head and seed, and its run folder. One that goes on (``--ckpt_path last``) continues the
    run of its name. Nothing leaves the machine unless ``TRACKIO_SPACE_ID`` or ``TRACKIO_SERVER_URL`` says where to.
    Look at runs with ``TRACKIO_DIR=<cache folder>/trackio trackio show --project <project>``.

    Args:
        project: trackio project.
        run, group: names in place of those made from the configuration.
    """

    def __init__(self, project: str = "fluxlight", run: str | None = None, group: str | None = None) -> None:
        super().__init__()
        self.project, self.run, self.group = project, run, group
        self._run: Any = None

    @property
    def name(self) -> str:
        """The project."""
        return self.project

    @property
    def version(self) -> str:
        """The run, "" before it is open."""
        return self.run or ""

    @property
    def experiment(self) -> Any:
        """The trackio run; there is none before the first configuration or measure."""
        if self._run is None:
            # Lightning asks `hasattr(logger, "experiment")` before anything is known of the run
            raise AttributeError("the trackio run opens with the first configuration or measure")
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:  # type: ignore[override]
        """Open the run under its name, with the configuration."""
        if self._run is None and isinstance(params, Mapping) and "trainer" in params:
            said = describe(params)
            self.run = self.run or f"{said['name']} ({said['tag']})"
            self.group = self.group or said["group"]
            self._open(dict(params), bool(params.get("ckpt_path")) and "verbose" not in params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log measures, or what trackio shows: tables, audio, pages; without a configuration the run opens here."""
        if self._run is None:
            self._open({}, False)
        with _silent():
            self._run.log(dict(metrics), step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the run with the stage: the next stage of this process opens its own."""
        if self._run is not None:
            with _silent():
                load().finish()
            self._run = None

    def _open(self, config: dict[str, Any], going_on: bool) -> None:
        trackio = load()
        with _silent():
            self._run = trackio.init(
                self.project, name=self.run, group=self.group, config=config, resume="allow" if going_on else "never",
                embed=False, auto_log_cpu=False, auto_log_gpu=False,
            )  # fmt: skip
        self.run = self._run.name


class TrackioMedia(TrackerMedia):
    """See `TrackerMedia`."""

    logger = StageTrackioLogger

    def send(self, logger: Any, said: Rendering) -> None:
        """Tell one logger."""
        trackio = load()
        audio = {
            f"slice/audio/{k}": trackio.Audio(path, caption=caption)
            for k, (path, caption) in enumerate(zip(said.audio, said.captions, strict=True))
        }
        table, page = trackio.Table(columns=COLUMNS, data=said.table), trackio.Html(said.page, inject=False)
        logger.log_metrics({"slice/clips": table, "slice/page": page, **audio}, said.step)


def load() -> Any:
    """The package, told to keep its database in the cache folder unless the user said where."""
    os.environ.setdefault(FOLDER, str(Path(cache_folder()) / "trackio"))
    try:
        import trackio
    except ImportError:
        raise ImportError("logger StageTrackioLogger needs trackio: pip install 'fluxlight[trackio]'") from None
    return trackio


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without trackio's own lines, which would stand among the bars."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
