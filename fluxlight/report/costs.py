"""Costs of a table's rows: no gain may hide in more compute."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fluxlight.files import write_json, write_text
from fluxlight.files.costs import read_costs, total
from fluxlight.report.table import grid


def write_costs_page(out: str | os.PathLike[str], systems: Mapping[str, str | os.PathLike[str]]) -> str:
    """Write ``costs.json`` and ``costs.md`` of rendered rows into ``out``.

    They stand apart from the table, since equal tables may have taken other times.

    Args:
        out: folder of the table.
        systems: row -> folder of its clips; costs stand in the run folder above.

    Returns:
        The Markdown table; "" where no row knows its costs, and nothing is written.
    """
    found = {name: read_costs(Path(folder).resolve().parent) for name, folder in systems.items()}
    if not any(found.values()):
        return ""
    rows = []
    for name, stages in found.items():
        for stage in stages:
            rows.append([name, stage["stage"], f"{stage['updates']:,}", f"{stage['clips']:,}",
                         f"{stage['seconds']:.0f}"])  # fmt: skip
        if stages:
            whole = total(stages)
            rows.append([name, "**together**", f"{whole['updates']:,}", f"{whole['clips']:,}",
                         f"{whole['seconds']:.0f}"])  # fmt: skip
        else:
            rows.append([name, "not known", "", "", ""])
    text = grid(["row", "stage", "updates", "clips", "seconds"], rows, numeric=2)
    head = ("# What the rows cost\n\nClips are those trained on (both of a pair), drawn or scored, once for each time; "
            "seconds those of the machine that made them, renderings included.\n\n")  # fmt: skip
    write_text(Path(out) / "costs.md", head + text + "\n")
    write_json(Path(out) / "costs.json", {name: {"stages": stages, "total": total(stages)} for name, stages in
                                          found.items()})  # fmt: skip
    return text
