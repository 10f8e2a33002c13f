"""SFTData: batches of a store for training, the prompt slice for validation, training captions for candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fluxlight.data import course
from fluxlight.data.prompts import Planned, PromptBatches, candidate_prompts, slice_prompts
from fluxlight.data.samplers import BatchStream, Stream
from fluxlight.data.store import LatentStore
from fluxlight.files import hash_of


@dataclass(frozen=True)
class Candidates:
    """Which candidates ``fluxlight predict`` draws, always from training captions.

    Attributes:
        prompts: how many distinct captions of the training store.
        per_prompt: clips of each caption.
        skip: how many captions earlier draws have taken (experts before pairs, a round before the next): those are
            drawn again only when there are no others.
        seed: noise seed of the first clip; clip j of prompt i has seed + j * prompts + i, so no two share noise.
        batch_size: clips sampled at a time.
    """

    prompts: int = 120
    per_prompt: int = 5
    skip: int = 0
    seed: int = 1000
    batch_size: int = 10


class Rows(Protocol):
    """Anything that turns row numbers into a batch: a store, a mixture, pairs."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> Any:
        """The rows of ``indices``, in that order."""


class WholeBatches(Dataset[Any]):
    """Map-style dataset whose unit is a batch: PyTorch hands it all indices of a batch at once.

    Args:
        rows: where batches come from.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> Any:
        return self.rows.batch(indices)


class SFTData(L.LightningDataModule):
    """A latent store, a prompt slice and training captions.

    Args:
        store: folder of the training store (``fluxlight encode --split train``).
        slice: folder of the prompt slice (``fluxlight encode --split slice --text_only true``); null: no rendering.
        batch_size: clips of a batch in one process.
        batches_per_epoch: batches between two checkpoints; an epoch is that many, whatever the size of the store.
        seed: of the order of rows; equal seeds give stages of one stream the same rows in the same order.
        stream: name of the order: under one seed, a stage of another stream takes the rows in another order.
        slice_clips: render only the first so many prompts; null: all.
        slice_measured: false renders and writes the slice and measures nothing of it.
        slice_batch_size: prompts rendered at a time.
        slice_seed: noise seed of prompt i of the slice is slice_seed + i (published: 42 and 55, FACTS section 4).
        candidates: what ``predict`` draws.
        reference: statistics file of the reference set, for the callbacks that measure; null: no FAD.
        score_column: scores that were appended to the store (``fluxlight store column``), in place of its own.
        num_workers: processes that read batches; 0 is right for a store in the page cache.
    """

    def __init__(
        self,
        store: str,
        slice: str | None = None,
        batch_size: int = 16,
        batches_per_epoch: int = 100,
        seed: int = 0,
        slice_clips: int | None = None,
        slice_batch_size: int = 10,
        slice_seed: int = 42,
        candidates: Candidates = Candidates(),
        reference: str | None = None,
        num_workers: int = 0,
        stream: str = "",
        score_column: str | None = None,
        slice_measured: bool = True,
    ) -> None:
        super().__init__()
        if batch_size < 1 or batches_per_epoch < 1:
            raise ValueError(f"batch_size {batch_size} and batches_per_epoch {batches_per_epoch} must be at least 1")
        self.store = LatentStore(store, score_column)
        self.slice = LatentStore(slice) if slice else None
        self.batch_size, self.batches_per_epoch, self.seed = batch_size, batches_per_epoch, seed
        self.stream = stream
        self.slice_clips, self.slice_batch_size, self.slice_seed = slice_clips, slice_batch_size, slice_seed
        self.slice_measured = slice_measured
        self.candidates, self.reference, self.num_workers = candidates, reference, num_workers
        self.done: set[tuple[str, int]] = set()

    def rows(self) -> Rows:
        """What training batches are read from."""
        self.store.require_latents()
        return self.store

    def table(self) -> np.ndarray:
        """Rows of one pass of the stream ``(n,)``, with repetition where a row counts more."""
        return np.arange(len(self.store))

    def name_of(self, number: int) -> str:
        """Clip ``number`` of `rows`, as a user finds it."""
        return f"clip {self.store.rows[number]['id']} in store {self.store.folder}"

    def content(self) -> dict[str, str]:
        """Setting -> checksum of what is trained on through it, and of the order of a pass."""
        return {"store": self.store.checksum, "rows": hash_of(self.table().tolist())}

    def skip(self, done: set[tuple[str, int]]) -> None:
        """Leave out the batches of ``predict`` all of whose (id, seed) are in ``done``."""
        self.done = done

    @property
    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _batches_done(self) -> int:
        return course.batches_done(self.trainer) if self.trainer else 0

    def train_dataloader(self) -> DataLoader:
        """The stream of training batches."""
        batches, limit, overfit = self.batches_per_epoch, None, False
        if self.trainer is not None:
            limit, overfit = course.epoch_length(self.trainer, batches), course.overfits(self.trainer)
            # the limit is cut from the loader's length by Lightning, so that stays whole
            batches = course.whole_epoch(self.trainer, batches)
        stream = Stream(self.table(), self.seed, self.stream)
        sampler = BatchStream(
            stream, self.batch_size, batches, self._batches_done, *self._place, limit=limit, overfit=overfit
        )
        return DataLoader(
            WholeBatches(self.rows()),
            batch_sampler=sampler,
            collate_fn=_same,
            generator=torch.Generator(),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader | list[Any]:
        """The prompt slice; this process's share of it, prompt by prompt."""
        if self.slice is None:
            return []
        rank, world = self._place
        mine = slice_prompts(self.slice, 1, self.slice_seed, self.slice_clips)[rank::world]
        size = self.slice_batch_size
        parts = [mine[start : start + size] for start in range(0, len(mine), size)]
        cut = [[item for one in part for item in one] for part in parts]
        return self._loader(self.slice, cut)

    def _planned(self) -> list[Planned]:
        c = self.candidates
        return candidate_prompts(self.store, c.prompts, c.per_prompt, c.seed, c.batch_size, self.seed, c.skip)

    def planned(self) -> list[tuple[str, int]]:
        """(id, seed) of every candidate that ``predict`` draws, in order."""
        return [(self.store.rows[row]["id"], seed) for batch in self._planned() for row, seed in batch]

    def predict_dataloader(self) -> DataLoader:
        """Prompts of candidates that are not there yet."""
        rows = self.store.rows
        missing = [b for b in self._planned() if not {(rows[row]["id"], seed) for row, seed in b} <= self.done]
        rank, world = self._place
        return self._loader(self.store, missing[rank::world])

    def _loader(self, store: LatentStore, batches: list[list[tuple[int, int]]]) -> DataLoader:
        if not batches and self._place[1] > 1:
            # a process without a prompt still takes part in what all do together
            batches = [[]]
        # a generator of its own: a loader without one draws from the global stream at every start
        return DataLoader(PromptBatches(store, batches), batch_size=None, generator=torch.Generator())


def _same(batch: Any) -> Any:
    return batch
