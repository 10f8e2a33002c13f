"""Measures of the rendered slice: thin callbacks around the metrics of `fluxlight.metrics`."""

from __future__ import annotations

from abc import ABC, abstractmethod

import lightning as L
import torch
from torch import Tensor

from callbacks.render_slice import RenderSlice
from fluxlight.encoders import TextAudioModel
from fluxlight.metrics import ClapScore, FrechetAudioDistance, Reference, RewardMean
from fluxlight.rewards import Reward


class Measure(L.Callback, ABC):
    """Logs one number of the rendered slice as ``key``. Every process has all clips, so nothing is synchronised.

    Args:
        key: under which the number is logged.
    """

    def __init__(self, key: str) -> None:
        self.key = key

    @abstractmethod
    def measure(self, render: RenderSlice) -> Tensor:
        """The number, a scalar."""

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure what RenderSlice has just made; it stands before the measures in the list."""
        render = RenderSlice.of(trainer)
        if render.clips:
            pl_module.log(self.key, self.measure(render).float(), batch_size=len(render.clips), prog_bar=False)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse an order in which there would be nothing to measure."""
        order = trainer.callbacks  # type: ignore[attr-defined]
        if order.index(RenderSlice.of(trainer)) > order.index(self):
            raise ValueError(
                f"{type(self).__name__} stands before RenderSlice in trainer.callbacks: put RenderSlice first"
            )


class FADCallback(Measure):
    """Frechet audio distance of the slice to a frozen reference, logged as ``val/fad``.

    Args:
        embedder: audio embedder; one that only judges.
        reference: statistics file (``fluxlight.metrics.Reference``) made with this embedder; null: not measured.
        key: under which the number is logged.
    """

    def __init__(self, embedder: TextAudioModel, reference: str | None = None, key: str = "val/fad") -> None:
        super().__init__(key)
        self.embedder, self.path = embedder, reference
        self.metric: FrechetAudioDistance | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read the reference now: a missing one must not end a long run."""
        super().setup(trainer, pl_module, stage)
        if self.path is not None and self.metric is None:
            self.metric = FrechetAudioDistance(Reference.load(self.path), self.embedder, sync_on_compute=False)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure, where there is a reference."""
        if self.metric is not None:
            super().on_validation_epoch_end(trainer, pl_module)

    def measure(self, render: RenderSlice) -> Tensor:
        """FAD of all clips."""
        assert self.metric is not None
        self.metric.reset()
        self.metric.update(embeddings=render.embeddings(self.embedder))
        return self.metric.compute()


class CLAPCallback(Measure):
    """Mean cosine of clips and prompts, logged as ``val/clap``.

    Args:
        embedder: joint text-audio model; one that only judges.
        key: under which the number is logged.
    """

    def __init__(self, embedder: TextAudioModel, key: str = "val/clap") -> None:
        super().__init__(key)
        self.embedder = embedder
        self.metric = ClapScore(embedder, sync_on_compute=False)

    def measure(self, render: RenderSlice) -> Tensor:
        """CLAP score of all clips."""
        self.metric.reset()
        self.metric.update(embeddings=render.embeddings(self.embedder), text=render.text_embeddings(self.embedder))
        return self.metric.compute()


class RewardCallback(Measure):
    """Mean reward of the clips, logged as ``val/reward``.

    Args:
        reward: judge of audio and prompt.
        key: under which the number is logged.
        batch_size: clips scored at a time.
    """

    def __init__(self, reward: Reward, key: str = "val/reward", batch_size: int = 10) -> None:
        super().__init__(key)
        self.reward, self.batch_size = reward, batch_size
        self.metric = RewardMean(reward, sync_on_compute=False)

    def measure(self, render: RenderSlice) -> Tensor:
        """Mean reward of all clips."""
        self.metric.reset()
        for start in range(0, len(render.clips), self.batch_size):
            clips = render.clips[start : start + self.batch_size]
            self.metric.update(torch.stack([c.audio for c in clips]), clips[0].sample_rate, [c.prompt for c in clips])
        return self.metric.compute()
