"""Streaming measures as ``torchmetrics.Metric``: an injected judge, sums that add up over batches and processes.

Each ``update`` takes audio and asks the judge, or takes what the judge already said (``embeddings=``, ``scores=``), so
that several measures share one pass. Judges are kept off the module tree: they move to no device and enter no state
dict.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from fluxlight.metrics.arrays import Array
from fluxlight.metrics.frechet import frechet_distance
from fluxlight.metrics.reference import Reference


class Judged(Metric):
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


class _Moments(Judged):
    """Sums from which mean and covariance of any number of clips follow, in constant memory.

    Args:
        embedder: object with ``embed_audio(audio (B, N), sample_rate) -> (B, d)`` and ``identity``, or None.
        origin: point ``(d,)`` the sums are taken from; near the mean they lose no digits.
    """

    origin: Tensor
    total: Tensor
    outer: Tensor
    count: Tensor

    def __init__(self, embedder: Any | None, origin: Any, **kwargs: Any) -> None:
        super().__init__(embedder, **kwargs)
        self.__dict__["origin"] = torch.as_tensor(origin, dtype=torch.float64)
        d = self.origin.shape[0]
        self.add_state("total", torch.zeros(d, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("outer", torch.zeros(d, d, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, audio: Tensor | None = None, sample_rate: int | None = None, embeddings: Tensor | None = None
    ) -> None:
        """Add clips, audio ``(B, N)`` or embeddings ``(B, d)``."""
        offset = self._embed(audio, sample_rate, embeddings)
        offset = offset - self.origin.to(offset)
        self.total += offset.sum(0)
        self.outer += offset.T @ offset
        self.count += offset.shape[0]

    def _moments(self) -> tuple[Array, Array, int]:
        n = int(self.count)
        if n < 2:
            raise ValueError(f"FAD: n = {n} clips, a covariance needs at least 2")
        shift = self.total / n
        cov = (self.outer - n * torch.outer(shift, shift)) / (n - 1)
        return (shift + self.origin.to(shift)).cpu().numpy(), cov.cpu().numpy(), n


class FrechetAudioDistance(_Moments):
    """FAD to a frozen reference, from sums alone: clips of any number in constant memory.

    Args:
        reference: frozen statistics; its embedder must be the one given here.
        embedder: object with ``embed_audio(audio (B, N), sample_rate) -> (B, d)`` and ``identity``; None when only
            embeddings are given.
        loudness: protocol of the clips that will be given; one at another loudness than the reference's is refused.
    """

    higher_is_better = False

    reference: Reference

    def __init__(
        self, reference: Reference, embedder: Any | None = None, loudness: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(embedder, reference.mean, **kwargs)
        if embedder is not None:
            reference.check(embedder.identity, loudness)
        self.__dict__["reference"] = reference

    def compute(self) -> Tensor:
        """FAD, a float64 scalar."""
        mean, cov, _ = self._moments()
        return torch.tensor(frechet_distance(mean, cov, self.reference.mean, self.reference.cov), dtype=torch.float64)


class ReferenceMoments(_Moments):
    """Statistics of a reference set of any size, over batches and processes; what it computes is the covariance.

    It keeps no embeddings, so FAD can be measured against it, KAD and the real-vs-real floor cannot.

    Args:
        embedder: as in FrechetAudioDistance.
        dim: width of its embeddings.
    """

    def __init__(self, embedder: Any, dim: int, **kwargs: Any) -> None:
        super().__init__(embedder, torch.zeros(dim), **kwargs)

    def compute(self) -> Tensor:
        """Covariance ``(d, d)``, float64."""
        return torch.from_numpy(self._moments()[1])

    def reference(self, sample_rate: int, name: str = "reference", loudness: str = "delivered") -> Reference:
        """The clips of this process as a frozen reference (inside ``sync_context``: those of all processes)."""
        mean, cov, n = self._moments()
        return Reference(name, mean, cov, n, self.judge.identity, sample_rate, loudness=loudness)


class ClapScore(Judged):
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


class RewardMean(Judged):
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
