"""PairData: winner and loser of one prompt each, for preference training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fluxlight.data.generated import Generated, read_selection
from fluxlight.data.sft import Rows, SFTData
from fluxlight.data.store import LatentStore
from fluxlight.files import hash_of
from fluxlight.types import PairBatch


class Pairs:
    """Generated winners and losers, row by row of one prompt.

    Args:
        rows: of pairs.jsonl: ``id``, ``prompt``, ``winner`` and ``loser``, each with ``latent`` and ``reward``.
        folder: where latents are.
        store: the training store, for the texts.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], folder: Path, store: LatentStore) -> None:
        for row in rows:
            if row["winner"]["latent"] == row["loser"]["latent"]:
                raise ValueError(f"pair of {row['id']} sets a clip against itself: run 'fluxlight select pairs' again")
        self.winner, self.loser = (
            Generated([{**r[side], "id": r["id"], "prompt": r["prompt"]} for r in rows], folder, store)
            for side in ("winner", "loser")
        )

    def __len__(self) -> int:
        return len(self.winner)

    def batch(self, indices: Sequence[int]) -> PairBatch:
        """The pairs of ``indices``."""
        return PairBatch(self.winner.batch(indices), self.loser.batch(indices))


class PairData(SFTData):
    """`SFTData` that trains on preference pairs; ``batch_size`` counts pairs.

    Args:
        pairs: ``pairs.jsonl`` of ``fluxlight select pairs``; its latents lie beside it.
        **settings: of `SFTData`.
    """

    def __init__(self, pairs: str | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.pairs = pairs

    def rows(self) -> Rows:
        """The pairs."""
        if self.pairs is None:
            raise ValueError("data.pairs is not set: give pairs.jsonl of 'fluxlight select pairs'")
        return Pairs(read_selection(self.pairs, "pairs"), Path(self.pairs).parent, self.store)

    def name_of(self, number: int) -> str:
        """A line of the pairs."""
        return f"line {number + 1} of {self.pairs}"

    def content(self) -> dict[str, str]:
        """Those of store, order and pairs."""
        rows = self.rows()
        pairs = {"pairs": hash_of([rows.winner.checksum, rows.loser.checksum])} if isinstance(rows, Pairs) else {}
        return {**super().content(), **pairs}

    def table(self) -> np.ndarray:
        """Every pair once."""
        return np.arange(len(self.rows()))
