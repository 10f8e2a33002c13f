"""What a source is: tracks in a fixed order, each with the clips that are cut from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fluxlight.data.rows import digest

Row = dict[str, Any]


class LeftOut(ValueError):
    """A clip, or a whole track, that cannot be used.

    Args:
        kind: one word or two, by which a summary counts.
        why: one line that names the file, and the remedy.
        by_rule: True where the source was asked to leave such clips out, so that nothing is to be mended.
    """

    def __init__(self, kind: str, why: str, by_rule: bool = False) -> None:
        super().__init__(why)
        self.kind, self.by_rule = kind, by_rule

    def __reduce__(self) -> tuple[Any, ...]:
        # from one process to another
        return type(self), (self.kind, str(self), self.by_rule)


@dataclass(frozen=True, slots=True)
class Track:
    """What is opened once: a file with the clips that are cut from it, or one row of a source without files.

    Attributes:
        number: place in the source.
        path: of the file, as the table names it; empty where there is none.
        rows: of the table that belong to it, each with ``id`` and ``caption`` at least.
    """

    number: int
    path: str
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """How a message calls it."""
        return self.path or str(self.rows[0]["id"])


@dataclass(frozen=True)
class Features:
    """What an encoder has made of clips already.

    Attributes:
        mean, std: ``(n, L, D)``; std may be None.
        score: ``(n,)`` or None.
    """

    mean: np.ndarray
    std: np.ndarray | None
    score: np.ndarray | None


class Source(ABC):
    """Captioned clips in a fixed order.

    Attributes:
        sample_rate: Hz of what `audio` gives.
        alone: True where each clip goes through the models by itself on a CPU, so that it is the same to the bit
            whichever clips are encoded beside it. False: the clips of a shard go together, as they always have, and a
            finished store is done with.
        encoded: True where `features` and `texts` give what models would make of audio and captions.
    """

    sample_rate: int
    alone = False
    encoded = False

    @property
    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """How rows become clips, as plain values; which rows there are is none of it where a store may be updated."""

    @property
    @abstractmethod
    def rows(self) -> list[Row]:
        """One row a clip with at least ``id`` and ``caption``, or one a track that `clips` makes several of."""

    @abstractmethod
    def audio(self, start: int, stop: int) -> Tensor:
        """Mono clips start .. stop - 1 as ``(n, N)`` float32."""

    @property
    def tracks(self) -> list[Track]:
        """What is opened once, in order."""
        return [Track(number, "", (row,)) for number, row in enumerate(self.rows)]

    @property
    def at_once(self) -> float:
        """Clips that a track gives at the most: how many tracks make a unit of work."""
        return 1

    def clips(self, track: Track) -> list[tuple[Row, bytes | LeftOut]]:
        """Rows of the store that a track gives, each with what it is made from, or why not; no samples are read.

        Raises:
            LeftOut: the track cannot be used, which can be known without decoding it.
        """
        return [(row, digest(row["id"], row["caption"])) for row in track.rows]

    def read(self, track: Track, rows: Sequence[Row]) -> Iterator[tuple[list[int], Tensor | LeftOut]]:
        """Audio ``(N,)``, or why there is none, with the numbers of the rows that it belongs to."""
        for number in range(len(rows)):
            yield [number], self.audio(track.number, track.number + 1)[0]

    def features(self, rows: Sequence[Row]) -> Features | None:
        """Latents and scores that are there already; None: they are to be computed from audio."""
        return None

    def texts(self, rows: Sequence[Row]) -> tuple[list[np.ndarray], np.ndarray] | None:
        """Text features of rows that are there already; None: they are to be computed from captions."""
        return None


def as_clip(wave: np.ndarray, samples: int, name: str, by_rule: bool = False) -> Tensor:
    """A piece as a clip: zero-padded to ``samples``, its peak at 0.95 (FACTS section 8).

    Raises:
        LeftOut: it is silent or not finite.
    """
    peak = float(np.abs(wave).max(initial=0.0))
    if not np.isfinite(peak) or not np.isfinite(wave).all():
        raise LeftOut("not finite", f"{name} is silent or not finite: it holds NaN or infinity, mend it")
    if peak < QUIET:
        raise LeftOut("silent", f"{name} is silent or not finite: nothing is louder than {QUIET}", by_rule)
    out = np.zeros(samples, np.float32)
    out[: len(wave)] = wave * (0.95 / peak)
    return torch.from_numpy(out)


QUIET = 1e-6
"""Peak under which a clip is silent (FACTS section 8: the published loader rejects it)."""
