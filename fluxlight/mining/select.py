"""What every selection of scored candidates begins with: usable rows, and none of the evaluation slice.

Experts: `fluxlight.mining.experts`; preference pairs: `fluxlight.mining.pairs`. Candidates come from training captions
only: ids of the slice are refused.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from fluxlight import tables
from fluxlight.clips.candidates import key_of

Row = dict[str, Any]


def usable(rows: Iterable[Row], *columns: str) -> list[Row]:
    """Rows without error whose ``columns`` are finite, one per key, in the order of their keys."""
    kept = {
        key_of(row): row
        for row in rows
        if not row.get("error") and all(isinstance(row.get(c), int | float) and math.isfinite(row[c]) for c in columns)
    }
    return [kept[key] for key in sorted(kept)]


def prompt_of(row: Row) -> tuple[str, str]:
    """Id and caption: two clips are compared under one text, never under two that share an id."""
    return str(row["id"]), str(row["prompt"])


def refuse_slice(rows: Iterable[Row], slice_ids: Collection[str]) -> None:
    """Raise if any row was made for a prompt of the evaluation slice."""
    found = sorted({str(row["id"]) for row in rows} & set(slice_ids))
    if found:
        raise ValueError(
            f"{len(found)} candidate ids belong to the evaluation slice (first: {found[0]}): "
            "candidates for training come from training captions only, predict on those"
        )


def read_ids(path: str | Path) -> set[str]:
    """Ids of a slice: its prompts in any file that `fluxlight generate` reads, or a store."""
    if not Path(path).exists():
        raise FileNotFoundError(f"slice {path} is missing: give a prompts .json, a .jsonl or a store with rows.jsonl")
    return set(tables.read_ids(path, "slice"))
