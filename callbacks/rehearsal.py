"""Rehearsal: everything a rendering needs, tried on one clip before training, so that nothing is missing at its end."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from fluxlight.evaluation.judging import prepare
from fluxlight.render import Renderer
from fluxlight.types import Clip


def rehearse(trainer: L.Trainer, renderer: Renderer, protocol: str) -> None:
    """Decode, post-process and judge one clip of near silence; what cannot be done raises its own error now.

    Weights that are missing, a cache folder that cannot be written and the like would else be found after the last
    update. Nothing is logged or written, and nothing is drawn from the global stream.

    Args:
        trainer: of the fit that begins.
        renderer: that will render.
        protocol: loudness under which clips are measured.
    """
    data = getattr(trainer, "datamodule", None)
    if not trainer.enable_validation or getattr(data, "slice", None) is None:
        return
    codec, draw = renderer.codec, torch.Generator().manual_seed(0)
    with torch.random.fork_rng(), torch.no_grad():
        latent = torch.randn(1, codec.latent_len, codec.latent_dim, generator=draw)
        row = renderer.render(["rehearsal"], ["a rehearsal"], latent)[0]
        if row.error:
            return  # noise is no music: what matters is that nothing is missing
        heard = torch.from_numpy(prepare(row.clip.audio.numpy(), codec.sample_rate, protocol))[None]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if getattr(callback, "metric", None) is not None:
                _judge(callback, row.clip, heard)


def _judge(measure: Any, clip: Clip, heard: Tensor) -> None:
    if (judge := getattr(measure, "embedder", None)) is not None:
        judge.embed_audio(heard, clip.sample_rate)
    if (reward := getattr(measure, "reward", None)) is not None:
        reward.score(heard, clip.sample_rate, [clip.prompt])
