"""RewardedData: latents with rewards, from a store and from scored candidates, for training a latent reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fluxlight.clips.candidates import load_latents
from fluxlight.data import course
from fluxlight.data.samplers import BatchStream, Stream
from fluxlight.data.sft import WholeBatches
from fluxlight.data.store import LatentStore
from fluxlight.files import read_jsonl
from fluxlight.random import generator, permutation, words
from fluxlight.types import Rewarded


class RewardedRows:
    """Rows of a store, then those of candidates folders.

    Args:
        store: with latents and scores.
        folders: of ``fluxlight predict``, scored by ``fluxlight score``, of captions of the store.
        heads: bootstraps of the captions.
        seed: of these.
    """

    def __init__(self, store: LatentStore, folders: Sequence[str], heads: int, seed: int) -> None:
        store.require_latents()
        if store.score is None:
            raise ValueError(f"store {store.folder} has no scores: encode it with the reward that is to be distilled")
        self.store, known = store, store.meta["identities"].get("reward")
        latents, rewards, owners = [], [], []
        for folder in map(Path, folders):
            rows = [row for row in read_jsonl(folder / "scores.jsonl") if not row["error"]]
            if not rows:
                raise ValueError(f"{folder} has no scored candidate: run 'fluxlight score --candidates {folder}'")
            if known and (other := {row["judges"]["reward"] for row in rows} - {known}):
                raise ValueError(f"{folder} was scored by {other.pop()}, the store by {known}: score it by that")
            fine = [row for row in rows if row["reward"] is not None and math.isfinite(row["reward"])]
            latents.append(load_latents(folder, fine))
            rewards += [float(row["reward"]) for row in fine]
            owners += [store.position(str(row["id"]), str(row["prompt"])) for row in fine]
        shape = store.mean.shape[1:]  # type: ignore[union-attr]
        self.latents = np.concatenate(latents) if latents else np.zeros((0, *shape), np.float32)
        if self.latents.shape[1:] != shape:
            raise ValueError(f"candidates have latents {self.latents.shape[1:]}, the store {shape}: predict anew")
        self.owner = np.concatenate([np.arange(len(store)), np.array(owners, dtype=np.int64)])
        self.reward = np.concatenate([np.asarray(store.score), np.array(rewards)]).astype(np.float32)
        self.caption = np.asarray(store.text_row)[self.owner]
        # all clips of a caption stand or fall together: they are no independent witnesses
        counts = torch.poisson(torch.ones(int(self.caption.max()) + 1, heads), generator(seed, *words("bootstrap")))
        self.weight = counts.numpy()[self.caption]

    def __len__(self) -> int:
        return len(self.owner)

    def batch(self, indices: Sequence[int]) -> Rewarded:
        """The rows of ``indices``."""
        index, n = np.asarray(indices, dtype=np.int64), len(self.store)
        stored = self.store.mean is not None and index < n
        mean, std = self.store.mean, self.store.std
        latents = np.stack([mean[i] if i < n else self.latents[i - n] for i in index])  # type: ignore[index]
        spread = None if std is None else np.stack([std[i] if i < n else np.zeros_like(std[0]) for i in index])
        text_c = self.store.text_c[np.asarray(self.caption[index])]
        return Rewarded(
            _tensor(latents), None if spread is None else _tensor(spread), _tensor(text_c), _tensor(self.reward[index]),
            _tensor(self.weight[index]), torch.from_numpy(self.caption[index].astype(np.int64)),
            torch.from_numpy(~np.asarray(stored)),
        )  # fmt: skip


class RewardedData(L.LightningDataModule):
    """Clips with rewards, some captions held out with all their clips.

    Args:
        store: folder of the training store, encoded with the reward that is distilled.
        candidates: scored candidates folders. Without them a reward never meets what a model draws, and nothing says
            how it agrees within a caption.
        batch_size: clips of a batch.
        batches_per_epoch: batches between two validations.
        share: of candidates in a batch, whatever their number (our choice); 0 takes all rows alike.
        held_out: share of the captions that are only measured.
        heads: members of the bag, of which each learns its own bootstrap.
        seed: of the order, the held-out captions and the bootstraps.
    """

    def __init__(
        self, store: str, candidates: list[str] | None = None, batch_size: int = 64, batches_per_epoch: int = 100,
        share: float = 0.5, held_out: float = 0.15, heads: int = 5, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        if not (0 < held_out < 1 and 0 <= share < 1):
            raise ValueError(f"held_out {held_out} must be within (0, 1) and share {share} within [0, 1)")
        self.known = RewardedRows(LatentStore(store), candidates or [], heads, seed)
        self.batch_size, self.batches_per_epoch, self.seed = batch_size, batches_per_epoch, seed
        captions = np.unique(self.known.caption)
        count = max(1, round(held_out * len(captions)))
        kept_out = captions[permutation(len(captions), seed, *words("held out"))[:count]]
        out = np.isin(self.known.caption, kept_out)
        self.val, self.train = np.flatnonzero(out), np.flatnonzero(~out)
        drawn = self.train[self.train >= len(self.known.store)]
        times = 1
        if share and len(drawn):
            times = max(1, round(share / (1 - share) * (len(self.train) - len(drawn)) / len(drawn)))
        self.train = np.concatenate([self.train, *[drawn] * (times - 1)])

    @property
    def latent_dim(self) -> int:
        """Channels of a latent."""
        return int(self.known.latents.shape[2])

    @property
    def text_dim(self) -> int:
        """Width of the global text embedding."""
        return int(self.known.store.text_c.shape[1])

    @property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents ``(D,)`` each."""
        return self.known.store.statistics

    @property
    def reward_scale(self) -> tuple[float, float]:
        """Mean and standard deviation of the training rewards."""
        rewards = self.known.reward[self.train].astype(np.float64)
        return float(rewards.mean()), float(rewards.std()) or 1.0

    @property
    def identities(self) -> dict[str, str]:
        """Of codec, encoders and reward."""
        return dict(self.known.store.meta["identities"])

    @property
    def facts(self) -> dict[str, Any]:
        """How many clips it is made from."""
        n, held_out = len(self.known.store), len(set(self.known.caption[self.val]))
        return {"rows": {"store": n, "candidates": len(self.known) - n}, "held_out_captions": held_out}

    def train_dataloader(self) -> DataLoader:
        """The stream of training batches: a function of seed and updates done."""
        sampler = BatchStream(Stream(self.train, self.seed), self.batch_size, self.batches_per_epoch, self._done)
        return DataLoader(
            WholeBatches(self.known), batch_sampler=sampler, collate_fn=_same, generator=torch.Generator()
        )  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader:
        """Held-out captions."""
        parts = [self.val[start : start + 256].tolist() for start in range(0, len(self.val), 256)]
        return DataLoader(
            WholeBatches(self.known), batch_sampler=parts, collate_fn=_same, generator=torch.Generator()
        )  # type: ignore[arg-type]

    def _done(self) -> int:
        return course.batches_done(self.trainer) if self.trainer else 0


def _same(batch: Any) -> Any:
    return batch


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))
