"""MixtureData: the training store with oversampled experts, or the experts alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fluxlight.data.generated import Generated, read_selection
from fluxlight.data.sft import Rows, SFTData
from fluxlight.data.store import LatentStore
from fluxlight.types import Batch


class Mixture:
    """A store followed by its experts: rows 0 .. n - 1 are the store, n .. n + k - 1 the experts.

    Args:
        store: the training store.
        experts: the generated clips.
    """

    def __init__(self, store: LatentStore, experts: Generated) -> None:
        self.store, self.experts = store, experts

    def __len__(self) -> int:
        return len(self.store) + len(self.experts)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The clips of ``indices`` in their order."""
        n = len(self.store)
        index = np.asarray(indices, dtype=np.int64)
        real, made = np.flatnonzero(index < n), np.flatnonzero(index >= n)
        if len(made) == 0:
            return self.store.batch(indices)
        parts = [self.experts.batch(index[made] - n)]
        if len(real):
            parts.insert(0, self.store.batch(index[real]))
        back = torch.from_numpy(np.argsort(np.concatenate([real, made]) if len(real) else made))
        columns: dict[str, Any] = {
            f.name: _join([getattr(part, f.name) for part in parts], back) for f in fields(Batch)
        }
        columns["index"] = torch.from_numpy(index)
        return Batch(**columns)


def _join(parts: list[Any], back: torch.Tensor) -> torch.Tensor | None:
    return None if any(part is None for part in parts) else torch.cat(parts)[back]


class MixtureData(SFTData):
    """`SFTData` whose stream also holds the experts (FACTS section 3: 5x oversampled, then the experts alone).

    Args:
        experts: ``experts.jsonl`` of ``fluxlight select experts``; its latents lie beside it.
        oversample: how often an expert stands in one pass of the stream; 0 trains on the store alone, whatever experts
            there are: the control that shows what equal further training does.
        experts_only: train on the experts alone (the polish).
        spread: root mean square that the experts' normalised latents are brought to, see `Generated`; null: as drawn.
        **settings: of `SFTData`.
    """

    def __init__(
        self,
        experts: str | None = None,
        oversample: int = 5,
        experts_only: bool = False,
        spread: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if oversample < 0 or (oversample == 0 and experts_only):
            raise ValueError(
                f"data.oversample is {oversample}" + (" and data.experts_only true" if experts_only else "")
                + ": give 1 or more, or 0 without experts_only to train on the store alone"
            )
        self.spread = spread
        self.experts, self.oversample, self.experts_only = experts, oversample, experts_only

    def rows(self) -> Rows:
        """LatentStore and experts."""
        if self.oversample == 0:
            return super().rows()
        if self.experts is None:
            raise ValueError(
                "data.experts is not set: give experts.jsonl of 'fluxlight select experts', "
                "or set data.oversample to 0 to train on the store alone"
            )
        chosen = read_selection(self.experts, "experts")
        return Mixture(self.store, Generated(chosen, Path(self.experts).parent, self.store, self.spread))

    def name_of(self, number: int) -> str:
        """Of the store, or a line of the experts."""
        n = len(self.store)
        return super().name_of(number) if number < n else f"line {number - n + 1} of {self.experts}"

    def content(self) -> dict[str, str]:
        """Those of store, order and experts."""
        rows = self.rows()
        return {**super().content(), **({"experts": rows.experts.checksum} if isinstance(rows, Mixture) else {})}

    def table(self) -> np.ndarray:
        """Every clip of the store once and every expert ``oversample`` times, or the experts alone."""
        n, k = len(self.store), len(self.rows()) - len(self.store)
        experts = np.arange(n, n + k)
        return experts if self.experts_only else np.concatenate([np.arange(n), np.repeat(experts, self.oversample)])
