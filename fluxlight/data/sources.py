"""Where captioned audio comes from: a split of the embedded corpus, or a folder of files with a table of captions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fluxlight.clips.read import heard, read_channels
from fluxlight.tables import read_prompt_rows, same

LOWEST = 16_000
"""Hz below which a file is refused: most of the range of music is missing (our choice)."""


class Source(ABC):
    """Captioned clips in a fixed order.

    Attributes:
        sample_rate: Hz of what `audio` gives.
    """

    sample_rate: int

    @property
    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """What the clips depend on, as plain values: the name of the source in a store."""

    @property
    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """One row a clip with at least ``id`` and ``caption``."""

    @abstractmethod
    def audio(self, start: int, stop: int) -> Tensor:
        """Mono clips start .. stop - 1 as ``(n, N)`` float32."""


class CorpusSplit(Source):
    """A split of the embedded corpus; what is missing of it is rendered first.

    Args:
        split: train, val, reference, slice, judge_a, judge_b or judge_val.
        preset: sizes by name.
        clips: number of clips in place of the preset's.
        seed: of the corpus.
        folder: where corpora are cached; null is the cache folder.
        jobs: processes that render.
    """

    sample_rate = 44_100

    def __init__(
        self,
        split: str = "train",
        preset: Literal["debug", "tiny", "judges"] = "tiny",
        clips: int | None = None,
        seed: int = 0,
        folder: str | None = None,
        jobs: int = 2,
    ) -> None:
        from fluxlight.embedded.corpus import CorpusSpec

        size = clips if clips is not None else getattr(CorpusSpec, preset)().sizes.get(split, 0)
        if size < 1:
            raise ValueError(f"the corpus preset {preset} has no split {split!r}: choose another split, or give clips")
        self.split, self.spec, self.folder, self.jobs = split, CorpusSpec(seed=seed, sizes={split: size}), folder, jobs

    @property
    def recipe(self) -> dict[str, Any]:
        """The spec of the corpus."""
        return {"corpus": self.spec.family, "split": self.split, "clips": self.spec.sizes[self.split]}

    @cached_property
    def _corpus(self) -> Any:
        from fluxlight.embedded.corpus import build

        return build(self.spec, Path(self.folder) if self.folder else None, jobs=self.jobs)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Rows with their tags and faults."""
        return [row.as_dict() for row in self._corpus.rows(self.split)]

    def audio(self, start: int, stop: int) -> Tensor:
        """Rendered clips of 10 s."""
        return torch.from_numpy(np.asarray(self._corpus.audio(self.split)[start:stop]))


class AudioFolder(Source):
    """Audio files with a table of captions (FACTS section 8: ``id<TAB>caption``).

    Clips are mono means, cut or zero-padded to ``seconds``, with their peak at 0.95; an inaudible one, or one below
    ``LOWEST`` Hz where more is asked for, is an error.

    Args:
        captions: table with the columns id and caption, or any other list of prompts (`fluxlight.tables`).
        folder: of ``<id><suffix>`` files, where an id may hold folders and may end with the suffix; null for a list of
            prompts without audio.
        suffix: of the files.
        sample_rate: Hz to resample to.
        seconds: length of a clip.
    """

    def __init__(
        self,
        captions: str,
        folder: str | None = None,
        suffix: str = ".wav",
        sample_rate: int = 44_100,
        seconds: float = 10.0,
    ) -> None:
        self.captions, self.folder, self.suffix = Path(captions), Path(folder) if folder else None, suffix
        self.sample_rate, self.samples = sample_rate, round(seconds * sample_rate)
        # now, not when they are asked for: a table that cannot be read begins no store
        self._rows = [{"id": row.id, "caption": row.prompt} for row in read_prompt_rows(captions, "captions")]

    @property
    def recipe(self) -> dict[str, Any]:
        """Hash of the table, length and rate."""
        from fluxlight.files import sha256

        return {"captions": sha256(self.captions)[:16], "sample_rate": self.sample_rate, "samples": self.samples}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Rows of the table."""
        return self._rows

    def audio(self, start: int, stop: int) -> Tensor:
        """Clips read from files."""
        return torch.stack([self._read(row["id"]) for row in self.rows[start:stop]])

    def _path(self, id: str) -> Path:
        """Where the file of an id is: under its very name, or under it with its accents written otherwise."""
        assert self.folder is not None
        path = self.folder / (id if id.lower().endswith(self.suffix.lower()) else f"{id}{self.suffix}")
        if path.is_file() or id.isascii() or not path.parent.is_dir():
            return path
        return next((p for p in sorted(path.parent.iterdir()) if same(p.name) == same(path.name)), path)

    def _read(self, id: str) -> Tensor:
        import soxr

        if self.folder is None:
            raise ValueError("the source has captions only: give source.folder, or encode with --text_only true")
        path = self._path(id)
        try:
            wave, rate = read_channels(path)
        except ValueError:
            raise FileNotFoundError(
                f"audio {path} is missing or damaged: put it there or take its line out of {self.captions}"
            ) from None
        if rate < min(LOWEST, self.sample_rate):
            raise ValueError(
                f"audio {path} is at {rate} Hz, above {rate // 2} Hz it holds nothing: give it at {LOWEST} Hz or more, "
                f"or take its line out of {self.captions}"
            )
        mono = soxr.resample(heard(wave, path), rate, self.sample_rate)[: self.samples]
        peak = float(np.abs(mono).max(initial=0.0))
        if not np.isfinite(peak) or peak < 1e-6:
            raise ValueError(f"audio {path} is silent or not finite: take its line out of {self.captions}")
        out = torch.zeros(self.samples)
        out[: len(mono)] = torch.from_numpy(np.ascontiguousarray(mono)) * (0.95 / peak)
        return out
