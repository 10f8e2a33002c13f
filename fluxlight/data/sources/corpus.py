"""A split of the embedded corpus."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fluxlight.data.sources.base import Source


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

    def __getstate__(self) -> dict[str, Any]:
        # another process opens the files for itself
        return {name: value for name, value in self.__dict__.items() if name != "_corpus"}
