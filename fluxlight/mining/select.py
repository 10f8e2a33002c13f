"""Selection: scored candidates -> preference pairs. A pure function of rows; no audio, no model, no random.

Pairs (FACTS section 10): per prompt the candidate with the highest against the one with the lowest CLAP score, never
the same clip. Experts: `fluxlight.mining.experts`.

Candidates come from training captions only: ids of the evaluation slice are refused.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from fluxlight import tables
from fluxlight.clips.candidates import key_of

Row = dict[str, Any]
SIDE = ("seed", "checkpoint", "audio", "latent", "reward", "clap")
"""What a pair says of each of its two clips."""


def usable(rows: Iterable[Row], *columns: str) -> list[Row]:
    """Rows without error whose ``columns`` are finite, one per key, in the order of their keys."""
    kept = {
        key_of(row): row
        for row in rows
        if not row.get("error") and all(isinstance(row.get(c), int | float) and math.isfinite(row[c]) for c in columns)
    }
    return [kept[key] for key in sorted(kept)]


def refuse_slice(rows: Iterable[Row], slice_ids: Collection[str]) -> None:
    """Raise if any row was made for a prompt of the evaluation slice."""
    found = sorted({str(row["id"]) for row in rows} & set(slice_ids))
    if found:
        raise ValueError(
            f"{len(found)} candidate ids belong to the evaluation slice (first: {found[0]}): "
            "candidates for training come from training captions only, predict on those"
        )


def select_pairs(
    rows: Iterable[Row], key: str = "clap", margin: float = 0.0, slice_ids: Collection[str] = ()
) -> list[Row]:
    """Per prompt the candidate with the highest ``key`` (winner) and the one with the lowest (loser).

    Args:
        rows: scored candidates; those with an error or without a finite ``key`` are passed over.
        key: score column that ranks the candidates of a prompt.
        margin: pairs whose scores differ by no more than this are left out. At 0, upstream's rule, only prompts whose
            candidates all tie are left out: there upstream would pair a clip with itself.
        slice_ids: ids that must not occur.

    Returns:
        One row per prompt, ordered by id: ``{id, prompt, key, margin, winner: {...}, loser: {...}}``.
    """
    if margin < 0:
        raise ValueError(f"margin is {margin}: it must be at least 0")
    refuse_slice(rows := list(rows), slice_ids)
    # by id and caption: two clips are compared under one text, never under two that share an id
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in usable(rows, key):
        groups.setdefault((str(row["id"]), str(row["prompt"])), []).append(row)
    if not groups:
        raise ValueError(f"none of {len(rows)} rows has a finite {key}: run `fluxlight score` and look at the errors")
    pairs = []
    for (id, prompt), group in sorted(groups.items()):
        winner = max(group, key=lambda row: row[key])  # max and min take the first of equals: the smaller key
        loser = min(group, key=lambda row: row[key])
        difference = winner[key] - loser[key]
        if difference > margin:
            sides = {name: {c: row.get(c) for c in SIDE} for name, row in (("winner", winner), ("loser", loser))}
            pairs.append({"id": id, "prompt": prompt, "key": key, "margin": difference, **sides})
    if not pairs:
        raise ValueError(
            f"no prompt of {len(groups)} has two candidates whose {key} differs by more than {margin}: "
            "predict several seeds per prompt"
        )
    return pairs


def read_ids(path: str | Path) -> set[str]:
    """Ids of a slice: its prompts in any file that `fluxlight generate` reads, or a store."""
    if not Path(path).exists():
        raise FileNotFoundError(f"slice {path} is missing: give a prompts .json, a .jsonl or a store with rows.jsonl")
    return set(tables.read_ids(path, "slice"))
