"""Costs: what a run folder has cost, with all that it stands on: updates, clips and seconds of every stage.

::

    <run>/costs.json    {"stages": [{stage, begun, updates, clips, seconds}, ...], "total": {updates, clips, seconds}}

The stages are in the order in which they were made, the folder's own last. The file stands beside bundle and slice, not
in them, so that equal weights and clips stay equal files however long they took.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fluxlight.files import read_json, write_json

NAME = "costs.json"
Cost = dict[str, Any]
"""Of one stage: ``stage``, ``begun`` (time), ``updates``, ``clips`` (trained on, drawn or scored), ``seconds``."""


def read_costs(run: str | os.PathLike[str]) -> list[Cost]:
    """What a run folder says it has cost; nothing where it does not, or where the file cannot be read."""
    try:
        return list(read_json(Path(run) / NAME)["stages"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write_costs(run: str | os.PathLike[str], stages: Iterable[Cost]) -> None:
    """Write the costs of a run folder; a stage that comes twice, by two ways, counts once."""
    by_start = {(cost["stage"], cost["begun"]): cost for cost in stages}
    write_json(Path(run) / NAME, {"stages": list(by_start.values()), "total": total(by_start.values())})


def total(stages: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Sums over stages."""
    rows = list(stages)
    return {"updates": sum(row["updates"] for row in rows), "clips": sum(row["clips"] for row in rows),
            "seconds": round(sum(row["seconds"] for row in rows), 1)}  # fmt: skip
