"""Page: the responses to all ladders as Markdown and as one picture per loudness protocol."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fluxlight.clips.faults import faulty_lines
from fluxlight.evaluation.judging import PROTOCOLS
from fluxlight.files import write_json, write_text
from fluxlight.report.plots import BLUE, GREY, INK, RED, SOFT, new_figure, save_figure
from fluxlight.report.table import MARK, arrow, grid, label, number


def _said(row: Mapping[str, Any]) -> str:
    must = {"worse": "must get worse", "flat": "must be flat", "": "no demand"}[row["must"]]
    return f"{row['shape']} ({must})" + ("" if row["holds"] else " ✗")


def markdown(result: Mapping[str, Any]) -> str:
    """The result as Markdown: a table per ladder and protocol, and what did not hold."""
    frame = result["frame"]
    judges = ", ".join(f"{label(name)} = {identity}" for name, identity in frame["judges"].items())
    parts = ["# What the measures say of known damage", ""]
    parts.append(f"n = {frame['n']} clips ({frame['clips']}); reference: {frame['reference']}; judges: {judges}.")
    parts.append("Values are means over the clips, or FAD, KAD, MAD and diversity of all. A step that goes the wrong")
    parts += ["way within its 95 % interval is noise; flat is less than a quarter of the clean standard error.", ""]
    parts += faults_section(frame)
    if result["broken"]:
        parts += ["**Does not hold:**", "", *(f"- {line}" for line in result["broken"]), ""]
    else:
        parts += ["Every demand holds.", ""]
    for protocol, table in result["tables"].items():
        parts += [f"## {PROTOCOLS[protocol][0].upper()}{PROTOCOLS[protocol][1:]}", ""]
        for ladder in table.values():
            head = [f"{ladder['title']}, {ladder['unit']}", "clean", *(f"{s:g}" for s in ladder["steps"]), "response"]
            rows = [[_label(r["measure"], frame), *(number(v) for v in r["values"]), _said(r)] for r in ladder["rows"]]
            parts += [grid(head, rows), ""]
    return "\n".join(parts).rstrip() + "\n"


def faults_section(frame: Mapping[str, Any]) -> list[str]:
    """Faulty clips of the material, and whether they count."""
    if not (lines := faulty_lines(frame.get("faults", {}))):
        return []
    left_out = frame.get("left_out", [])
    said = f"Left out: {', '.join(left_out)}." if left_out else "They count; --leave-out-faulty leaves them out."
    return ["**Faulty clips:**", "", *lines, f"- {said}", ""]


def _label(measure: str, frame: Mapping[str, Any]) -> str:
    return label(measure) + (f" {MARK}" if measure in frame["optimised"] else "")


def plot(result: Mapping[str, Any], protocol: str, path: str | os.PathLike[str]) -> None:
    """One panel per measure and ladder: value at each step, with the 95 % interval of its change from clean."""
    table, frame = result["tables"][protocol], result["frame"]
    names = list(table)
    measures = [row["measure"] for row in table[names[0]]["rows"]]
    figure, axes = new_figure(len(names), len(measures), 2.15 * len(names) + 0.8, 1.5 * len(measures) + 0.9)
    for i, measure in enumerate(measures):
        cells = [axes[i * len(names) + j] for j in range(len(names))]
        for j, name in enumerate(names):
            ladder, axis = table[name], cells[j]
            row = ladder["rows"][i]
            colour = RED if not row["holds"] else BLUE if row["must"] else SOFT
            x = list(range(len(row["values"])))
            # a change of nothing has an interval of rounding errors, of either sign
            error = [[max(v - low, 0.0) for v, low in zip(row["values"], row["low"], strict=True)],
                     [max(high - v, 0.0) for v, high in zip(row["values"], row["high"], strict=True)]]  # fmt: skip
            axis.axhline(row["values"][0], color=GREY, lw=1)
            axis.errorbar(x, row["values"], yerr=error, fmt="o-", color=colour, lw=1.2, markersize=3.5, capsize=2)
            ticks = ["clean", *(f"{s:g}" for s in ladder["steps"])] if i == len(measures) - 1 else [""] * len(x)
            axis.set_xticks(x, ticks, fontsize=7, rotation=45)
            axis.tick_params(axis="y", labelsize=7)
            title = row["shape"] + ("" if row["holds"] else f"; must be {row['must']}")
            axis.set_title(title, fontsize=7, color=colour if row["must"] else INK, loc="left")
            if i == 0:
                axis.annotate(f"{ladder['title']} ({ladder['unit']})", (0, 1.25), xycoords="axes fraction",
                              fontsize=9, color=INK, va="bottom")  # fmt: skip
            axis.grid(axis="y", color="#eceef2")
            axis.set_axisbelow(True)
            axis.margins(y=0.12)
        lowest = min(axis.get_ylim()[0] for axis in cells)
        highest = max(axis.get_ylim()[1] for axis in cells)
        for axis in cells:
            axis.set_ylim(lowest, highest)  # one scale along a row: what is a small response looks small
        way = arrow(measure)
        cells[0].set_ylabel(_label(measure, frame) + way, fontsize=8)
        for axis in cells[1:]:
            axis.set_yticklabels([])
    figure.supxlabel(
        f"{PROTOCOLS[protocol]}; n = {frame['n']}\nblue: moves as it must, red: does not, grey: no demand\n"
        "bars: 95 % interval of the change from clean",
        fontsize=8, color=SOFT,
    )  # fmt: skip
    save_figure(figure, path)


def write_page(result: Mapping[str, Any], out: str | os.PathLike[str]) -> None:
    """Write ladders.json, ladders.md and ladders_<protocol>.png into ``out``."""
    folder = Path(out)
    write_json(folder / "ladders.json", result)
    pictures = ""
    for protocol in result["tables"]:
        plot(result, protocol, folder / f"ladders_{protocol}.png")
        pictures += f"\n![{PROTOCOLS[protocol]}](ladders_{protocol}.png)\n"
    write_text(folder / "ladders.md", markdown(result) + pictures)
