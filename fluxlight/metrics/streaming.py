"""The measures as ``torchmetrics.Metric``: an injected judge, states that add up over batches and processes.

Each ``update`` takes audio and asks the judge, or takes what the judge already said (``embeddings=``, ``scores=``), so
that several measures share one pass. Judges are kept off the module tree: they move to no device and enter no state
dict.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from fluxlight.metrics.frechet import frechet_distance
from fluxlight.metrics.kad import kad
from fluxlight.metrics.reference import Reference


class _Judged(Metric):
    """A metric with a judge held beside the module tree."""

    full_state_update = False
    is_differentiable = False

    judge: Any

    def __init__(self, judge: Any | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__dict__["judge"] = judge

    def _embed(self, audio: Tensor | None, sample_rate: int | None, embeddings: Tensor | None) -> Tensor:
        if embeddings is None:
            if audio is None or sample_rate is None:
                raise ValueError(f"{type(self).__name__}: give audio (B, N) with its sample_rate, or embeddings (B, d)")
            if self.judge is None:
                raise ValueError(f"{type(self).__name__}: no embedder was given, so only embeddings can be measured")
            with torch.no_grad():
                embeddings = self.judge.embed_audio(audio, sample_rate)
        if embeddings.ndim != 2 or not torch.isfinite(embeddings).all():
            raise ValueError(f"{type(self).__name__}: embeddings must be finite (B, d), got {tuple(embeddings.shape)}")
        return embeddings.detach().to(self.device, torch.float64)


class FrechetAudioDistance(_Judged):
    """FAD to a frozen reference, from sums alone: clips of any number in constant memory.

    Args:
        reference: frozen statistics; its embedder must be the one given here.
        embedder: object with ``embed_audio(audio (B, N), sample_rate) -> (B, d)`` and ``identity``; None when only
            embeddings are given.
    """

    higher_is_better = False

    reference: Reference
    total: Tensor
    outer: Tensor
    count: Tensor

    def __init__(self, reference: Reference, embedder: Any | None = None, **kwargs: Any) -> None:
        super().__init__(embedder, **kwargs)
        if embedder is not None:
            reference.check(embedder.identity)
        self.__dict__["reference"] = reference
        d = reference.mean.shape[0]
        # sums of offsets from the reference mean: small numbers, so n of any size loses no digits
        self.add_state("total", torch.zeros(d, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("outer", torch.zeros(d, d, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, audio: Tensor | None = None, sample_rate: int | None = None, embeddings: Tensor | None = None
    ) -> None:
        """Add clips, audio ``(B, N)`` or embeddings ``(B, d)``."""
        offset = self._embed(audio, sample_rate, embeddings)
        offset = offset - torch.from_numpy(self.reference.mean).to(offset)
        self.total += offset.sum(0)
        self.outer += offset.T @ offset
        self.count += offset.shape[0]

    def compute(self) -> Tensor:
        """FAD, a float64 scalar."""
        n = int(self.count)
        if n < 2:
            raise ValueError(f"FAD: n = {n} clips, a covariance needs at least 2")
        shift = self.total / n
        cov = (self.outer - n * torch.outer(shift, shift)) / (n - 1)
        mean = shift.cpu().numpy() + self.reference.mean
        value = frechet_distance(mean, cov.cpu().numpy(), self.reference.mean, self.reference.cov)
        return torch.tensor(value, dtype=torch.float64)


class KernelAudioDistance(_Judged):
    """KAD to a frozen reference that kept its embeddings; the clips' embeddings are kept too.

    Args:
        reference: frozen reference with embeddings.
        embedder: as in FrechetAudioDistance.
    """

    higher_is_better = False

    reference: Reference
    rows: list[Tensor]

    def __init__(self, reference: Reference, embedder: Any | None = None, **kwargs: Any) -> None:
        super().__init__(embedder, **kwargs)
        if embedder is not None:
            reference.check(embedder.identity)
        reference.bandwidth()  # refuse a reference without embeddings now, not at the first compute
        self.__dict__["reference"] = reference
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(
        self, audio: Tensor | None = None, sample_rate: int | None = None, embeddings: Tensor | None = None
    ) -> None:
        """Add clips, audio ``(B, N)`` or embeddings ``(B, d)``."""
        self.rows.append(self._embed(audio, sample_rate, embeddings))

    def compute(self) -> Tensor:
        """KAD, a float64 scalar."""
        rows = self.rows if isinstance(self.rows, Tensor) else torch.cat(self.rows) if self.rows else torch.zeros(0, 1)
        return torch.tensor(kad(rows, self.reference.embeddings), dtype=torch.float64)


class ClapScore(_Judged):
    """Mean cosine between clips and their prompts.

    Args:
        clap: object with ``embed_audio``, ``embed_text(texts) -> (B, d)`` and ``identity``, or None.
    """

    higher_is_better = True

    total: Tensor
    count: Tensor

    def __init__(self, clap: Any | None = None, **kwargs: Any) -> None:
        super().__init__(clap, **kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, audio: Tensor | None = None, sample_rate: int | None = None, prompts: list[str] | None = None,
        embeddings: Tensor | None = None, text: Tensor | None = None,
    ) -> None:  # fmt: skip
        """Add clips ``(B, N)`` with prompts, or embeddings ``(B, d)`` with text embeddings ``(B, d)``."""
        sound = self._embed(audio, sample_rate, embeddings)
        if text is None:
            if prompts is None or self.judge is None:
                raise ValueError("ClapScore: give the prompts of the clips, or their text embeddings (B, d)")
            with torch.no_grad():
                text = self.judge.embed_text(prompts)
        if text.shape != sound.shape:
            raise ValueError(f"ClapScore: {sound.shape[0]} clips and {text.shape[0]} prompts must match row by row")
        self.total += torch.nn.functional.cosine_similarity(sound, text.to(sound), dim=1).sum()
        self.count += sound.shape[0]

    def compute(self) -> Tensor:
        """Mean cosine."""
        if not int(self.count):
            raise ValueError("ClapScore: no clip was given")
        return self.total / self.count


class RewardMean(_Judged):
    """Mean reward of clips.

    Args:
        reward: object with ``score(audio (B, N), sample_rate, prompts) -> (B,)``, or None.
    """

    higher_is_better = True

    total: Tensor
    count: Tensor

    def __init__(self, reward: Any | None = None, **kwargs: Any) -> None:
        super().__init__(reward, **kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, audio: Tensor | None = None, sample_rate: int | None = None, prompts: list[str] | None = None,
        scores: Tensor | None = None,
    ) -> None:  # fmt: skip
        """Add clips ``(B, N)`` with prompts, or scores ``(B,)``."""
        if scores is None:
            if audio is None or sample_rate is None or prompts is None or self.judge is None:
                raise ValueError("RewardMean: give a reward with audio (B, N), sample_rate and prompts, or scores (B,)")
            with torch.no_grad():
                scores = self.judge.score(audio, sample_rate, prompts)
        if scores.ndim != 1 or not torch.isfinite(scores).all():
            raise ValueError(f"RewardMean: scores must be finite (B,), got shape {tuple(scores.shape)}")
        self.total += scores.detach().to(self.device, torch.float64).sum()
        self.count += scores.shape[0]

    def compute(self) -> Tensor:
        """Mean score."""
        if not int(self.count):
            raise ValueError("RewardMean: no clip was given")
        return self.total / self.count
