"""Twin: one short Markdown report of an experiment, its forest plots drawn beside it; what the project keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reports.blocks import Block, Forest, blocks
from experiments.reports.judges import card_blocks
from experiments.reports.page import LEGEND, LONGEST, as_markdown, collect
from fluxlight.files import write_json, write_text
from fluxlight.report.plots import BLUE, INK, SOFT, new_figure, save_figure

COLUMNS = 3


def write_twins(out: Path, folder: Path) -> list[Path]:
    """Write ``<experiment>.md``, ``<experiment>.json`` and its plots for every experiment of a folder.

    Args:
        out: folder of experiments.
        folder: where the reports go.

    Returns:
        The Markdown files.
    """
    made = []
    for result, evaluation in collect(out):
        name, parts = result["experiment"], []
        found = [*blocks(result, evaluation), *card_blocks([evaluation])]
        number = 0
        for group in _grouped(found):
            plots = [block for block in group if isinstance(block, Forest)]
            if not plots:
                parts.append(as_markdown(group))
                continue
            number += 1
            picture = folder / f"{name}-{number}.png"
            draw(plots, picture)
            parts.append(f"![{'; '.join(plot.title for plot in plots)}]({picture.name})")
        write_json(folder / f"{name}.json", as_data(result, evaluation))
        path = folder / f"{name}.md"
        write_text(path, "\n\n".join([f"# {result['title']}", *parts, LEGEND]) + "\n")
        made.append(path)
    return made


def as_data(result: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """A report for machines: result.json and table.json of an experiment in one (``experiment.schema.json``)."""
    return {"version": 1, "kind": "experiment", "result": dict(result), "evaluation": evaluation}


def _grouped(found: Sequence[Block]) -> list[list[Block]]:
    """Blocks in their order, forest plots that follow each other together."""
    groups: list[list[Block]] = []
    for block in found:
        if groups and isinstance(block, Forest) and isinstance(groups[-1][-1], Forest):
            groups[-1].append(block)
        else:
            groups.append([block])
    return groups


def draw(plots: Sequence[Forest], path: Path) -> None:
    """Draw forest plots into one PNG; those that share their labels say them once a row."""
    columns = min(COLUMNS, len(plots))
    rows = -(-len(plots) // columns)
    most = max(len(plot.lines) for plot in plots)
    widest = min(LONGEST, max(len(name) for plot in plots for name in plot.labels))
    figure, axes = new_figure(columns, rows, 2.6 * columns + 0.07 * widest, rows * (0.21 * most + 0.75))
    for k, (axis, plot) in enumerate(zip(axes, plots, strict=False)):
        colour = SOFT if plot.soft else BLUE
        for y, line in enumerate(plot.lines):
            axis.plot([line.low, line.high], [y, y], color=colour, linewidth=1.8)
            face = colour if line.sure else "white"
            axis.plot(line.value, y, "o", color=colour, markerfacecolor=face, markersize=4.5)
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set_title(plot.title, fontsize=9, loc="left", color=INK)
        axis.set_ylim(len(plot.lines) - 0.5, -0.5)
        named = k % columns == 0 or plot.labels != plots[k - 1].labels
        axis.set_yticks(range(len(plot.lines)), [name[:LONGEST] if named else "" for name in plot.labels])
        axis.tick_params(labelsize=8)
        axis.locator_params(axis="x", nbins=4)
    for axis in axes[len(plots) :]:
        axis.set_axis_off()
    save_figure(figure, path)
