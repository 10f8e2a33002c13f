"""Over-optimisation: what a run gained by the judges that drive it against what it gained by those that only judge.

Both over the distance from the starting weights, as in Gao, Schulman and Hilton (arXiv 2210.10760): the driving reward
goes on rising where the held-out one has turned. A run that learns the judge and not the music shows as a gap.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fluxlight.files import write_json, write_text
from fluxlight.report.plots import BLUE, GREY, INK, RED, SOFT, as_svg, new_figure, save_figure
from fluxlight.report.table import label

NAME = "over_optimisation"


def curve(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The curve of a guard's rows: judge -> gains in standard deviations of its scores at the start.

    Args:
        rows: of guard.jsonl, in order.

    Returns:
        ``update`` and ``distance`` (mean |v - v_r|^2) with the start first; ``judges`` name -> ``driving``, ``gain``,
        ``low``, ``high``; ``divergence``: least-squares slope through 0 of (mean driving gain - mean held-out gain)
        over the distance, None where nothing drives or nothing has moved.
    """
    judges: dict[str, Any] = {}
    rows = [row for row in rows if row["judges"]]  # of a look without a usable clip there is nothing to draw
    for name, first in (rows[0]["judges"] if rows else {}).items():
        scale = first["scale"] or 1.0
        said = [row["judges"][name] for row in rows]
        judges[name] = {"driving": first["driving"]} | {
            key: [0.0, *(one[part] / scale for one in said)]
            for key, part in (("gain", "change"), ("low", "low"), ("high", "high"))
        }
    distance = [0.0, *(float(row["distance"]) for row in rows)]
    means = {
        drives: np.mean([one["gain"] for one in judges.values() if one["driving"] == drives], axis=0)
        for drives in (True, False)
        if any(one["driving"] == drives for one in judges.values())
    }
    x, divergence = np.array(distance), None
    if len(means) == 2 and x.any():
        divergence = float(x @ (means[True] - means[False]) / (x @ x))
    return {"update": [0, *(row["update"] for row in rows)], "distance": distance, "judges": judges,
            "divergence": divergence, "kept": rows[-1]["kept"] if rows else 0,
            "stopped": bool(rows and rows[-1]["stopped"])}  # fmt: skip


def write_curve(found: Mapping[str, Any], folder: str | os.PathLike[str], pictures: bool = True) -> None:
    """Write over_optimisation.json, and as pictures .svg and .png, into ``folder``."""
    folder = Path(folder)
    write_json(folder / f"{NAME}.json", dict(found))
    if not pictures:
        return
    figure, axes = new_figure(2, 1, 9.0, 3.4)
    for axis, x, said in (
        (axes[0], np.sqrt(found["distance"]), "distance to the start, rms of v - v_r"),
        (axes[1], np.array(found["update"]), "update"),
    ):
        axis.axhline(0, color=GREY, lw=1)
        for k, (name, one) in enumerate(found["judges"].items()):
            colour, way = (RED, "drives") if one["driving"] else (BLUE, "only judges")
            style = ("-", "--", ":", "-.")[k % 4]
            order = np.argsort(x, kind="stable")
            axis.plot(x[order], np.array(one["gain"])[order], style, color=colour, lw=1.6, marker="o", markersize=3,
                      label=f"{label(name)} ({way})")  # fmt: skip
            axis.fill_between(x[order], np.array(one["low"])[order], np.array(one["high"])[order], color=colour,
                              alpha=0.08, lw=0)  # fmt: skip
        kept = found["update"].index(found["kept"]) if found["kept"] in found["update"] else 0
        axis.axvline(x[kept], color=SOFT, lw=1, ls=":")
        axis.set_xlabel(said, fontsize=9, color=INK)
    axes[0].set_ylabel("gain since the start,\nsd of the start's scores", fontsize=9, color=INK)
    axes[1].legend(fontsize=7, frameon=False)
    slope = "" if found["divergence"] is None else f"; divergence {found['divergence']:+.2f} sd per unit of distance"
    end = f"stopped, weights of update {found['kept']} kept" if found["stopped"] else f"best at update {found['kept']}"
    figure.suptitle(f"What was gained, and by whose ear ({end}{slope})", fontsize=10, color=INK)
    save_figure(figure, folder / f"{NAME}.png")
    write_text(folder / f"{NAME}.svg", as_svg(figure, "over-optimisation curve") + "\n")
