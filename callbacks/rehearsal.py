"""Rehearsal: everything a rendering needs, tried on one clip before training, so that nothing is missing at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch

from fluxlight.codec import Codec
from fluxlight.device import chosen
from fluxlight.types import Clip


def rehearse(trainer: L.Trainer, codec: Codec, postprocess: list[Callable[[Clip], Clip]], device: str) -> None:
    """Decode, post-process and judge one clip of near silence; what cannot be done raises its own error now.

    Weights that are missing, a cache folder that cannot be written and the like would else be found after the last
    update. Nothing is logged or written, and nothing is drawn from the global stream.

    Args:
        trainer: of the fit that begins.
        codec: that will decode.
        postprocess: that will follow.
        device: where the codec runs.
    """
    data = getattr(trainer, "datamodule", None)
    if not trainer.enable_validation or getattr(data, "slice", None) is None:
        return
    place = chosen(device)
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(), torch.no_grad():
        latent = torch.randn(1, codec.latent_len, codec.latent_dim, generator=draw)
        audio = codec.to(place).decode(latent.to(place)).cpu()[0]
        clip = Clip("rehearsal", audio, codec.sample_rate, "a rehearsal")
        for step in postprocess:
            clip = step(clip)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if getattr(callback, "metric", None) is not None:
                _judge(callback, clip)


def _judge(measure: Any, clip: Clip) -> None:
    audio = clip.audio[None]
    if (judge := getattr(measure, "embedder", None)) is not None:
        judge.embed_audio(audio, clip.sample_rate)
    if (reward := getattr(measure, "reward", None)) is not None:
        reward.score(audio, clip.sample_rate, [clip.prompt])
