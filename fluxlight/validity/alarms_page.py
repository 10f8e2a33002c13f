"""Page: false-alarm rates and power as Markdown and as two pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fluxlight.files import write_json, write_text
from fluxlight.report.plots import BLUE, INK, RED, SOFT, new_figure, save_figure
from fluxlight.report.table import MARK, grid, label
from fluxlight.validity.damage import LADDERS
from fluxlight.validity.page import faults_section

KINDS = {"noise": "same model, other noise", "halves": "same data, other halves"}
COLOURS = ("#1f2430", "#2a6fbb", "#b8442c", "#3a8f5c", "#c98a1b", "#7a4fb0", "#4aa3a8", "#8a90a0", "#a0526f")


def _name(measure: str, frame: Mapping[str, Any]) -> str:
    if measure == "family":
        return "whole family (Holm)"
    return label(measure) + (f" {MARK}" if measure in frame["optimised"] else "")


def _share(rate: Mapping[str, Any]) -> str:
    return f"{100 * rate['share']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"


def markdown(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    frame = result["frame"]
    judges = ", ".join(f"{label(name)} = {identity}" for name, identity in frame["judges"].items())
    parts = ["# How often the tests are wrong", ""]
    parts.append(f"n = {frame['n']} clips in a row, {frame['loudness']} loudness; {frame['material']}.")
    parts.append(f"Reference: {frame['reference']}; judges: {judges}.")
    parts += [f"{frame['resamples']} permutations for measures of whole rows; 95 % Clopper-Pearson intervals.", ""]
    parts += faults_section(frame)
    parts += ["## False alarms", "", "A measure alarms by its own p < 0.05, the family when any p after Holm is.", ""]
    kinds = result["false_alarms"]
    names = list(dict.fromkeys(name for rates in kinds.values() for name in rates))
    head = ["", *(f"{KINDS[kind]}, {rates['family']['trials']} trials" for kind, rates in kinds.items())]
    rows = [[_name(m, frame), *(_share(rates[m]) for rates in kinds.values())] for m in names]
    parts += [grid(head, rows), ""]
    for kind, ladders in result["power"].items():
        parts += [
            f"## Power: {KINDS[kind]}, one row damaged",
            "",
            "Seen: p after Holm < 0.05, in the right direction.",
            "",
        ]
        for ladder, steps in ladders.items():
            head = [f"{LADDERS[ladder].title}, {LADDERS[ladder].unit}", *steps]
            rows = [[_name(m, frame), *(_share(rates[m]) for rates in steps.values())] for m in names]
            parts += [grid(head, rows), ""]
    return "\n".join(parts).rstrip() + "\n"


def plot_alarms(result: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Rates of false alarms with their intervals, one panel per kind of A/A trial, against the promised 5 %."""
    kinds, frame = result["false_alarms"], result["frame"]
    names = list(next(iter(kinds.values())))
    figure, axes = new_figure(len(kinds), 1, 3.6 * len(kinds) + 1.6, 0.34 * len(names) + 1.5)
    for k, (axis, (kind, rates)) in enumerate(zip(axes, kinds.items(), strict=True)):
        axis.axvline(5, color=SOFT, lw=1, ls="--")
        for y, name in enumerate(names):
            r = rates[name]
            colour = RED if r["low"] > 0.05 else INK if name == "family" else BLUE
            axis.plot([100 * r["low"], 100 * r["high"]], [y, y], color=colour, lw=1.6)
            axis.plot(100 * r["share"], y, "o", color=colour, markersize=6 if name == "family" else 5)
        axis.set_yticks(range(len(names)), [_name(m, frame) for m in names] if k == 0 else [""] * len(names))
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_xlim(left=0)
        axis.set_title(f"{KINDS[kind]}\n{rates['family']['trials']} A/A trials", fontsize=9, color=INK, loc="left")
        axis.grid(axis="x", color="#eceef2")
        axis.set_axisbelow(True)
    figure.supxlabel(
        f"false alarms in % with 95 % interval; dashed: the promised 5 %; n = {frame['n']}", fontsize=8, color=SOFT
    )
    save_figure(figure, path)


def plot_power(result: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """How often each measure sees a small damage: one row of panels per kind, one panel per damage."""
    kinds, frame = result["power"], result["frame"]
    columns = max(len(ladders) for ladders in kinds.values())
    figure, axes = new_figure(columns, len(kinds), 3.0 * columns + 1.8, 2.7 * len(kinds) + 0.6)
    for i, (kind, ladders) in enumerate(kinds.items()):
        for j, (ladder, steps) in enumerate(ladders.items()):
            axis = axes[i * columns + j]
            axis.axhline(80, color=SOFT, lw=1, ls="--")
            names = [name for name in next(iter(steps.values())) if name != "family"]
            for k, name in enumerate(names):
                values = [100 * rates[name]["share"] for rates in steps.values()]
                line = ":" if name in frame["optimised"] else "-"
                axis.plot(range(len(values)), values, line, marker="o", markersize=3.5, lw=1.3,
                          color=COLOURS[k % len(COLOURS)], label=_name(name, frame))  # fmt: skip
            axis.set_xticks(range(len(steps)), list(steps), fontsize=8)
            axis.set_ylim(-4, 104)
            axis.set_title(f"{LADDERS[ladder].title} ({LADDERS[ladder].unit})", fontsize=9, color=INK, loc="left")
            axis.grid(axis="y", color="#eceef2")
            axis.set_axisbelow(True)
            if j == 0:
                axis.set_ylabel(f"seen, %\n{KINDS[kind]}", fontsize=8)
        for axis in axes[i * columns + len(ladders) : (i + 1) * columns]:
            axis.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    figure.supxlabel(
        f"known small damage, mild to strong; n = {frame['n']}; seen: Holm p < 0.05 in the right direction; "
        "dashed: 80 %",
        fontsize=8, color=SOFT,
    )  # fmt: skip
    save_figure(figure, path)


def write_page(result: Mapping[str, Any], out: str | os.PathLike[str]) -> None:
    """Write error_rates.json, error_rates.md, false_alarms.png and power.png into ``out``."""
    folder = Path(out)
    write_json(folder / "error_rates.json", result)
    plot_alarms(result, folder / "false_alarms.png")
    pictures = "\n![False alarms](false_alarms.png)\n"
    if result["power"]:
        plot_power(result, folder / "power.png")
        pictures += "\n![Power](power.png)\n"
    write_text(folder / "error_rates.md", markdown(result) + pictures)
