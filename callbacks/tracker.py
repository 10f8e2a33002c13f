"""Tracker: what every tracker is told of a run and of a rendered slice; how, is wandb's and Trackio's own file."""

from __future__ import annotations

import base64
import html
import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L

from callbacks.measures import CLAPCallback
from callbacks.render_slice import RenderSlice
from fluxlight.clips.candidates import load_audio, read_candidates
from fluxlight.types import Candidate

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


class TrackerMedia(L.Callback, ABC):
    """Sends a rendered slice to a tracker: a table of all prompts, the first clips, and a page to listen to.

    Without a logger of its kind it does nothing. It stands after RenderSlice in the list of callbacks.

    Args:
        clips: how many clips are sent as audio; the table names all.

    Attributes:
        logger: class of the loggers that are told.
    """

    logger: type[Any]

    def __init__(self, clips: int = 8) -> None:
        self.clips = clips

    @abstractmethod
    def send(self, logger: Any, said: Rendering) -> None:
        """Tell one logger."""

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Send what RenderSlice has just written."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, self.logger)]
        # without one nothing is gathered
        said = rendered(trainer, self.clips) if loggers else None
        if said is not None:
            for logger in loggers:
                self.send(logger, said)


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
