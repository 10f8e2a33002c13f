"""SliceMedia: a few fixed prompts to hear and to see after every rendering, wherever the run is logged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from callbacks.render_slice import RenderSlice
from fluxlight.clips.candidates import load_audio, read_candidates
from fluxlight.files import atomic_path
from fluxlight.report.spectrogram import coloured, mel_picture, save_picture


class SliceMedia(L.Callback):
    """Hands audio and a mel spectrogram of fixed prompts to wandb or TensorBoard; else writes them as files.

    With another logger (CSV), or none, they lie in ``<run>/<folder>/update-<n>/`` as ``.wav`` and ``.jpg``.

    Args:
        clips: how many prompts, the first of the slice.
        ids: these prompts instead.
        folder: below the run folder.
    """

    def __init__(self, clips: int = 4, ids: list[str] | None = None, folder: str = "media") -> None:
        self.clips, self.ids, self.folder = clips, ids, folder

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read what RenderSlice has just written; it stands earlier in the list."""
        render = RenderSlice.of(trainer)
        if not render.total or not trainer.is_global_zero:
            return
        run, step = Path(trainer.default_root_dir), int(trainer.global_step)
        source = run / render.folder
        rows = [row for row in read_candidates(source) if not row.error]
        if self.ids is not None and (unknown := sorted(set(self.ids) - {row.id for row in rows})):
            raise ValueError(f"SliceMedia: ids {', '.join(unknown)} are no prompts of the slice")
        chosen = [row for row in rows if row.id in self.ids] if self.ids is not None else rows[: self.clips]
        others = [logger for logger in trainer.loggers if not isinstance(logger, WandbLogger | TensorBoardLogger)]
        for row in chosen:
            audio, rate = load_audio(source, row)
            picture = mel_picture(audio, rate)
            for logger in trainer.loggers:
                if logger not in others:
                    _log(logger, row.id, row.prompt, audio, rate, picture, step)
            if others or not trainer.loggers:
                stem = run / self.folder / f"update-{step:06d}" / Path(row.audio).stem
                save_picture(picture, stem.with_suffix(".jpg"))
                with atomic_path(stem.with_suffix(".wav")) as temporary:
                    shutil.copyfile(source / row.audio, temporary)


def _log(logger: Any, id: str, prompt: str, audio: np.ndarray, rate: int, picture: np.ndarray, step: int) -> None:
    key, pixels = f"slice/{id}", coloured(picture)
    if isinstance(logger, WandbLogger):
        logger.log_audio(f"{key}/audio", [audio], step, sample_rate=[rate], caption=[prompt])
        logger.log_image(f"{key}/spectrogram", [pixels], step, caption=[prompt])
        return
    logger.experiment.add_audio(f"{key}/audio", audio, step, rate)
    logger.experiment.add_image(f"{key}/spectrogram", pixels, step, dataformats="HWC")
