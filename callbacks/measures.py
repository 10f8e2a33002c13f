"""Measures of the rendered slice: thin callbacks around the metrics of `fluxlight.metrics`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import lightning as L
import torch
from torch import Tensor

from callbacks.render_slice import PROTOCOL, RenderSlice
from fluxlight import measures
from fluxlight.encoders import TextAudioModel
from fluxlight.measures import MEASURES
from fluxlight.metrics import (
    ClapScore,
    Diversity,
    FrechetAudioDistance,
    KernelAudioDistance,
    MauveAudioDivergence,
    Reference,
    RewardMean,
)
from fluxlight.rewards import Reward


class SliceMeasure(L.Callback, ABC):
    """Logs one number of the rendered slice as ``key``.

    Every process has the gathered embeddings of all clips and measures them, so nothing is synchronised.

    Args:
        key: under which the number is logged.
    """

    metric: Any

    def __init__(self, key: str) -> None:
        self.key = key

    @abstractmethod
    def fill(self, render: RenderSlice) -> None:
        """Give the metric what it needs of the rendering."""

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure what RenderSlice has just made; it stands before the measures in the list."""
        render = RenderSlice.of(trainer)
        wanted = getattr(trainer.datamodule, "slice_measured", True)  # type: ignore[attr-defined]
        if render.total and wanted and self.metric is not None:
            self.metric.reset()
            self.fill(render)
            value: Tensor = self.metric.compute()
            self.metric.reset()  # lets the embeddings go
            pl_module.log(self.key, value.float(), batch_size=render.total, prog_bar=False)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse an order in which there would be nothing to measure."""
        order = trainer.callbacks  # type: ignore[attr-defined]
        if order.index(RenderSlice.of(trainer)) > order.index(self):
            raise ValueError(
                f"{type(self).__name__} stands before RenderSlice in trainer.callbacks: put RenderSlice first"
            )


class Measure(SliceMeasure):
    """Any measure of `fluxlight.measures` over the slice, logged as ``val/<its name>``.

    Args:
        measure: its name, or class name.
        embedder: audio embedder; one that only judges.
        reference: statistics file made with this embedder, for a measure that needs one; null there: not measured.
        key: under which the number is logged.
    """

    def __init__(
        self, measure: str, embedder: TextAudioModel, reference: str | None = None, key: str | None = None
    ) -> None:
        named = {kind.__name__: kind for kind in MEASURES.values()} | MEASURES
        if measure not in named or named[measure].takes != "clips":
            known = ", ".join(name for name, kind in MEASURES.items() if kind.takes == "clips")
            raise ValueError(f"measure {measure!r} is not one of the clips' embeddings: use {known}")
        self.kind = named[measure]
        super().__init__(key or f"val/{self.kind.name}")
        self.embedder, self.path = embedder, reference
        self.metric = GramMetric(self.kind) if self.kind.needs == "nothing" else None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read the reference now: a missing one must not end a long run."""
        super().setup(trainer, pl_module, stage)
        if self.path is not None and self.metric is None:
            reference = Reference.load(self.path)
            reference.check(self.embedder.identity, PROTOCOL)
            if lacks := self.kind.lacks(reference):
                raise ValueError(f"{self.kind.name} {lacks}: reference {self.path} is not such a one")
            self.metric = GramMetric(self.kind, reference)

    def fill(self, render: RenderSlice) -> None:
        """Embeddings of all clips."""
        self.metric.update(embeddings=render.embeddings(self.embedder))


class GramMetric(Diversity):
    """A measure of the gathered embeddings as a metric.

    Args:
        kind: the measure.
        reference: what it needs.
    """

    def __init__(self, kind: type[measures.Measure], reference: Reference | None = None) -> None:
        super().__init__(None, sync_on_compute=False)
        self.kind, self.reference = kind, reference

    def compute(self) -> Tensor:
        """The measure, a float64 scalar."""
        rows = self._all().numpy()
        value = self.kind(len(rows), self.reference).gram(rows).distance()
        return torch.tensor(value, dtype=torch.float64)


class _Distance(SliceMeasure):
    """A distance of the slice to a frozen reference.

    Args:
        embedder: audio embedder; one that only judges.
        reference: statistics file (``fluxlight.metrics.Reference``) made with this embedder; null: not measured.
        key: under which the number is logged.
    """

    kind: type[FrechetAudioDistance] | type[KernelAudioDistance] | type[MauveAudioDivergence]

    def __init__(self, embedder: TextAudioModel, reference: str | None, key: str) -> None:
        super().__init__(key)
        self.embedder, self.path, self.metric = embedder, reference, None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read the reference now: a missing one must not end a long run."""
        super().setup(trainer, pl_module, stage)
        if self.path is not None and self.metric is None:
            self.metric = self.kind(Reference.load(self.path), self.embedder, PROTOCOL, sync_on_compute=False)

    def fill(self, render: RenderSlice) -> None:
        """Embeddings of all clips."""
        self.metric.update(embeddings=render.embeddings(self.embedder))


class FADCallback(_Distance):
    """Frechet audio distance of the slice to a frozen reference, logged as ``val/fad``.

    Args:
        embedder: audio embedder; one that only judges.
        reference: statistics file (``fluxlight.metrics.Reference``) made with this embedder; null: not measured.
        key: under which the number is logged.
    """

    kind = FrechetAudioDistance

    def __init__(self, embedder: TextAudioModel, reference: str | None = None, key: str = "val/fad") -> None:
        super().__init__(embedder, reference, key)


class KADCallback(_Distance):
    """Kernel audio distance of the slice to a frozen reference that kept its embeddings, logged as ``val/kad``.

    Args:
        embedder: audio embedder; one that only judges.
        reference: statistics file made with this embedder; null: not measured.
        key: under which the number is logged.
    """

    kind = KernelAudioDistance

    def __init__(self, embedder: TextAudioModel, reference: str | None = None, key: str = "val/kad") -> None:
        super().__init__(embedder, reference, key)


class MADCallback(_Distance):
    """MAUVE audio divergence of the slice from a frozen reference that kept its embeddings, logged as ``val/mad``.

    Args:
        embedder: audio embedder; one that only judges.
        reference: statistics file made with this embedder; null: not measured.
        key: under which the number is logged.
    """

    kind = MauveAudioDivergence

    def __init__(self, embedder: TextAudioModel, reference: str | None = None, key: str = "val/mad") -> None:
        super().__init__(embedder, reference, key)


class DiversityCallback(SliceMeasure):
    """Mean pairwise distance of the clips' embeddings, logged as ``val/diversity``: it falls when a model collapses.

    Args:
        embedder: audio embedder; one that only judges.
        key: under which the number is logged.
    """

    def __init__(self, embedder: TextAudioModel, key: str = "val/diversity") -> None:
        super().__init__(key)
        self.embedder, self.metric = embedder, Diversity(embedder, sync_on_compute=False)

    def fill(self, render: RenderSlice) -> None:
        """Embeddings of all clips."""
        self.metric.update(embeddings=render.embeddings(self.embedder))


class CLAPCallback(SliceMeasure):
    """Mean cosine of clips and prompts, logged as ``val/clap``.

    Args:
        embedder: joint text-audio model; one that only judges.
        key: under which the number is logged.
    """

    def __init__(self, embedder: TextAudioModel, key: str = "val/clap") -> None:
        super().__init__(key)
        self.embedder, self.metric = embedder, ClapScore(embedder, sync_on_compute=False)

    def fill(self, render: RenderSlice) -> None:
        """Embeddings of all clips and of their prompts."""
        self.metric.update(embeddings=render.embeddings(self.embedder), text=render.text_embeddings(self.embedder))


class RewardCallback(SliceMeasure):
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

    def fill(self, render: RenderSlice) -> None:
        """Scores of all clips."""
        self.metric.update(scores=render.rewards(self.reward, self.batch_size))
