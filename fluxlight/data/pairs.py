"""PairData: winners and losers for preference training, and the pairs that are kept out of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fluxlight.data.generated import Generated, read_selection
from fluxlight.data.sft import SFTData
from fluxlight.data.store import LatentStore
from fluxlight.files import hash_of
from fluxlight.random import words
from fluxlight.types import PairBatch


class Pairs:
    """Generated winners and losers, row by row.

    Args:
        rows: of pairs.jsonl: ``id``, ``prompt``, ``winner`` and ``loser``, each with ``latent`` and ``reward``; a side
            that is of another prompt than the row has ``id`` and ``prompt`` of its own.
        folder: where latents are.
        store: the training store, for the texts.
        spread: as in `Generated`, of winners and of losers: what they differ in is then no difference of spread.
    """

    def __init__(
        self, rows: Sequence[dict[str, Any]], folder: Path, store: LatentStore, spread: float | None = None
    ) -> None:
        for row in rows:
            if row["winner"]["latent"] == row["loser"]["latent"]:
                raise ValueError(f"pair of {row['id']} sets a clip against itself: run 'fluxlight select pairs' again")
        self.winner, self.loser = (
            Generated([{"id": r["id"], "prompt": r["prompt"], **r[side]} for r in rows], folder, store, spread)
            for side in ("winner", "loser")
        )
        self.ids = [str(row["id"]) for row in rows]
        self.paired = bool((self.winner.positions == self.loser.positions).all())

    def __len__(self) -> int:
        return len(self.winner)

    def batch(self, indices: Sequence[int]) -> PairBatch:
        """The pairs of ``indices``."""
        return PairBatch(self.winner.batch(indices), self.loser.batch(indices))


class PairData(SFTData):
    """`SFTData` that trains on preference pairs; ``batch_size`` counts pairs.

    Args:
        pairs: ``pairs.jsonl`` of ``fluxlight select pairs``; its latents lie beside it.
        held_out: share of the prompts whose pairs are not trained on (`kept_out`), to see whether what is learned
            holds for others.
        spread: root mean square that the normalised latents of winners, and those of losers, are brought to, see
            `Generated`; null: as drawn.
        **settings: of `SFTData`.
    """

    def __init__(
        self, pairs: str | None = None, held_out: float = 0.0, spread: float | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        if not 0 <= held_out < 1:
            raise ValueError(f"data.held_out is {held_out}: it is a share, 0 up to below 1")
        self.pairs, self.held_out, self.spread = pairs, held_out, spread

    def rows(self) -> Pairs:
        """The pairs."""
        if self.pairs is None:
            raise ValueError("data.pairs is not set: give pairs.jsonl of 'fluxlight select pairs'")
        return Pairs(read_selection(self.pairs, "pairs"), Path(self.pairs).parent, self.store, self.spread)

    def name_of(self, number: int) -> str:
        """A line of the pairs."""
        return f"line {number + 1} of {self.pairs}"

    def content(self) -> dict[str, str]:
        """Those of store, order and pairs."""
        rows = self.rows()
        return {**super().content(), "pairs": hash_of([rows.winner.checksum, rows.loser.checksum])}

    def table(self) -> np.ndarray:
        """Every pair once that is trained on."""
        ids = self.rows().ids
        out = kept_out(ids, self.held_out)
        return np.array([k for k, id in enumerate(ids) if id not in out], dtype=np.int64)


def kept_out(ids: Sequence[str], share: float) -> set[str]:
    """The ids of ``ids`` that training does not see: those whose hash falls below ``share``, whatever others there are.

    One at least where ``share`` is above 0 and there are two, and never all.
    """
    order = sorted(set(ids), key=lambda id: (words(f"held out {id}"), id))
    below = sum(words(f"held out {id}")[0] < share * 2**64 for id in order)
    return set(order[: min(max(below, 1), len(order) - 1)]) if share > 0 else set()
