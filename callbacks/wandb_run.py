"""wandb: a logger whose runs are named after what they are and go on where they stopped, and what there is to hear."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import WandbLogger

from callbacks.measures import CLAPCallback
from callbacks.render_slice import RenderSlice
from fluxlight.clips.candidates import load_audio, read_candidates
from fluxlight.files import hash_of
from fluxlight.types import Candidate

DATA = "WANDB_DATA_DIR"
COLUMNS = ["id", "prompt", "seed", "CLAP", "delivery"]
"""Of the table of clips."""


def describe(config: Mapping[str, Any]) -> dict[str, str]:
    """Name, group, job type and tags of a run, from its parsed configuration.

    The name tells stage, head and seed; runs of one group differ in their seed; the tag is the name of the run folder.
    """

    def last(value: Any) -> str:
        return str(value or "").rsplit(".", 1)[-1]

    model = config.get("model") or {}
    given = model.get("init_args") or {}
    stage = last(model.get("class_path")) or "run"
    head = last((given.get("head") or {}).get("class_path")) or "no head"
    seed = given.get("seed", config.get("seed_everything"))
    folder = Path(str((config.get("trainer") or {}).get("default_root_dir") or ".")).name
    return {"name": f"{stage} {head} seed {seed}", "group": f"{stage} {head}", "tag": folder}


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


class WandbMedia(L.Callback):
    """Sends a rendered slice to wandb: a table of all prompts, the first clips, and a page to listen to.

    Without a `WandbLogger` it does nothing. It stands after RenderSlice in the list of callbacks.

    Args:
        clips: how many clips are sent as audio; the table names all.
    """

    def __init__(self, clips: int = 8) -> None:
        self.clips = clips

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Send what RenderSlice has just written."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        said = rendered(trainer, self.clips) if loggers else None
        if said is None:
            return
        import wandb

        for logger in loggers:
            clips = wandb.Table(columns=[*COLUMNS], data=said.table)
            # not inside the table: wandb would keep the files of a table's audio outside the run
            logger.log_audio("slice/audio", said.audio, said.step, caption=said.captions)
            logger.log_metrics({"slice/clips": clips, "slice/page": wandb.Html(said.page, inject=False)}, said.step)  # type: ignore[dict-item]


@dataclass(frozen=True)
class Rendering:
    """What a tracker is told of a rendered slice.

    Attributes:
        step: updates so far.
        table: a row a prompt, under `COLUMNS`.
        audio: files of the first clips.
        captions: their prompts.
        page: HTML that holds them.
    """

    step: int
    table: list[list[Any]]
    audio: list[str]
    captions: list[str]
    page: str


def rendered(trainer: L.Trainer, count: int) -> Rendering | None:
    """What RenderSlice has just written; None where it has not, and on all processes but the first.

    Args:
        trainer: the trainer, whose RenderSlice has had its turn.
        count: clips that are heard.
    """
    render = RenderSlice.of(trainer)
    if not render.total or trainer.sanity_checking:
        return None
    scores = clap_scores(trainer)  # of all processes, so all of them ask
    if not trainer.is_global_zero:
        return None
    folder, step = Path(trainer.default_root_dir) / render.folder, int(trainer.global_step)
    rows = sorted((row for row in read_candidates(folder) if not row.error), key=lambda row: row.seed)
    said = dict(enumerate(scores))
    table = [
        [row.id, row.prompt, row.seed, said.get(k), "; ".join(row.extra.get("notes", []))]
        for k, row in enumerate(rows)
    ]  # fmt: skip
    heard = rows[:count]
    audio, captions = [str(folder / row.audio) for row in heard], [row.prompt for row in heard]
    return Rendering(step, table, audio, captions, listening(folder, heard, scores, f"update {step}"))


def clap_scores(trainer: L.Trainer) -> list[float]:
    """CLAP score of every clip, from the embeddings that the run's own CLAPCallback has made; empty without one."""
    render = RenderSlice.of(trainer)
    judge = next((c.embedder for c in trainer.callbacks if isinstance(c, CLAPCallback)), None)  # type: ignore[attr-defined]
    if judge is None:
        return []
    return [float(v) for v in (render.embeddings(judge) * render.text_embeddings(judge)).sum(dim=1)]


def listening(folder: Path, rows: Sequence[Candidate], scores: Sequence[float], title: str) -> str:
    """A page that holds its audio: wandb shows one file, so nothing can lie beside it."""
    import soundfile

    parts = [f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><h1>{html.escape(title)}</h1>"]
    for k, row in enumerate(rows):
        audio, rate = load_audio(folder, row)
        data = io.BytesIO()
        soundfile.write(data, audio, rate, format="MP3")
        source = base64.b64encode(data.getvalue()).decode()
        said = f" CLAP {scores[k]:.2f}" if scores else ""
        parts.append(
            f"<p><b>{html.escape(row.id)}</b>{said}<br>{html.escape(row.prompt)}<br>"
            f'<audio controls src="data:audio/mpeg;base64,{source}"></audio></p>'
        )
    return "\n".join(parts)
