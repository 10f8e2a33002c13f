"""The order of training rows: an endless stream that is a pure function of seed and position."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from fluxlight.random import permutation, words


class Stream:
    """Endless passes over a table of rows, each pass in an order of its own.

    Position k of the stream is entry ``k mod n`` of permutation ``k // n``, so any batch of any epoch can be asked for
    without walking to it, whichever stage or head asks.

    Args:
        table: rows to draw from ``(n,)`` int64; a row that stands in it five times comes five times a pass.
        seed: of the permutations.
        name: of the stream: equal seeds give streams of other names other orders.
    """

    def __init__(self, table: np.ndarray, seed: int, name: str = "") -> None:
        if len(table) == 0:
            raise ValueError("the training stream is empty: the store or the selection has no rows")
        self.table, self.seed = table, seed
        self._order = lru_cache(maxsize=2)(lambda number: permutation(len(table), seed, number, *words(name)))

    def rows(self, start: int, count: int) -> list[int]:
        """Rows at positions start .. start + count - 1."""
        n = len(self.table)
        return [int(self.table[self._order(k // n)[k % n]]) for k in range(start, start + count)]


class BatchStream:
    """Batch sampler: from the batches done to the end of their epoch, cut for one of ``world`` processes.

    The place is asked for when an iteration starts, and it is a function of the updates done. What Lightning counts is
    not: its ``set_epoch``, and its own epoch, are one off in some runs that go on (lightning 2.6), which would see
    other rows than the uninterrupted one.

    Args:
        stream: where rows come from.
        batch_size: rows of a batch in one process.
        batches: batches of an epoch.
        done: tells how many batches the run has made.
        rank, world: which share of the global batch is ours.
        limit: batches of an epoch that Lightning asks for, where it is told to ask for fewer.
        overfit: give the first ``limit`` batches again and again.
    """

    def __init__(
        self, stream: Stream, batch_size: int, batches: int, done: Callable[[], int], rank: int = 0, world: int = 1,
        limit: int | None = None, overfit: bool = False,
    ) -> None:  # fmt: skip
        self.stream, self.batch_size, self.batches, self.done = stream, batch_size, batches, done
        self.rank, self.world, self.limit, self.overfit = rank, world, limit or batches, overfit

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        first = self.done()
        for place in range(first, first + self.limit - first % self.limit):
            batch = place % self.limit if self.overfit else place
            yield self.stream.rows((batch * self.world + self.rank) * self.batch_size, self.batch_size)
