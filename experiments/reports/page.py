"""Page: one report of every experiment in a folder, ``index.html`` and its Markdown twin, from the folders alone."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from experiments.cells.experiment import names
from experiments.reports.blocks import Block, Forest, Table, Text, blocks
from experiments.reports.judges import card_blocks
from fluxlight.evaluation.evaluate import VERSION
from fluxlight.files import read_json, write_text
from fluxlight.report.plots import BLUE, INK, SOFT, as_svg, new_figure
from fluxlight.report.table import MARK, grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEGEND = (
    f"{MARK} used to train or select, so a rise there proves nothing by itself. Filled: Holm p < 0.05 (of a slope: the "
    "interval excludes 0). FAD at this n is mostly bias: read differences."
)
LONGEST = 46
"""Letters of a label in a plot."""
STYLE = """
:root{color-scheme:light;--ink:#1f2430;--soft:#646b7c;--line:#e3e6ec;--back:#fff;--tint:#f6f7fa}
*{box-sizing:border-box}body{margin:0;font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back)}
main{max-width:1320px;margin:0 auto;padding:1.5rem 1.25rem 4rem}h1{font-size:1.6rem;margin:.2rem 0 1rem}
h2{font-size:1.25rem;margin:3rem 0 .4rem;padding-top:.6rem;border-top:1px solid var(--line)}
h3{font-size:.95rem;margin:1.4rem 0 .3rem}
p{max-width:75ch;margin:.4rem 0}.note{color:var(--soft);font-size:.85rem;max-width:100ch;overflow-wrap:anywhere}
nav a{display:inline-block;margin:0 .9rem .3rem 0;color:#2a6fbb}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px}
table{border-collapse:collapse;font-size:.83rem;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.35rem .5rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{background:var(--tint);font-weight:600}.l{text-align:left}td.wrap{white-space:normal;min-width:15rem}
tr:last-child td{border-bottom:0}audio{height:30px;width:104px;display:block}small{color:var(--soft);display:block}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:.8rem;margin:.8rem 0}
.plots figure{margin:0;border:1px solid var(--line);border-radius:6px;padding:.5rem}
svg{width:100%;height:auto;display:block}
figcaption{font-size:.8rem;font-weight:600;margin:0 0 .2rem}
"""


def forest(plot: Forest) -> str:
    """A forest plot as SVG: zero, intervals, points; filled where the table is sure."""
    return as_svg(forest_figure(plot), plot.title)


def forest_figure(plot: Forest) -> Figure:
    """The plot's figure, as wide as the longest label asks for."""
    shown = [line.label if len(line.label) <= LONGEST else line.label[: LONGEST - 1] + "…" for line in plot.lines]
    figure, (axis,) = new_figure(1, 1, 3.2 + 0.07 * max(map(len, shown)), 0.24 * len(shown) + 0.5)
    colour = SOFT if plot.soft else BLUE
    axis.axvline(0, color=INK, linewidth=1)
    for y, line in enumerate(plot.lines):
        fill = colour if line.sure else "white"
        axis.plot([line.low, line.high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
        axis.plot([line.value], [y], "o", color=colour, markerfacecolor=fill, markersize=5)
    axis.set_yticks(range(len(shown)), shown)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    return figure


def _cell(text: str, left: bool, wrap: bool = False) -> str:
    match = re.fullmatch(r"(\S+) (\[[^\]]*\])(.*)", text)
    inside = html.escape(text)
    if match:
        inside = f"{html.escape(match[1] + match[3])}<small>{html.escape(match[2])}</small>"
    classes = " ".join(name for name, on in (("l", left), ("wrap", wrap)) if on)
    kind = f' class="{classes}"' if classes else ""
    return f"<td{kind}>{inside}</td>"


def as_html(found: Sequence[Block], folder: Path) -> str:
    """Blocks as HTML; forest plots that follow each other share a row, and a clip is played where its file is."""
    parts: list[str] = []
    plots: list[str] = []

    def flush() -> None:
        if plots:
            parts.append(f"<div class=plots>{''.join(plots)}</div>")
            plots.clear()

    for block in found:
        if isinstance(block, Forest):
            plots.append(f"<figure><figcaption>{html.escape(block.title)}</figcaption>{forest(block)}</figure>")
            continue
        flush()
        if isinstance(block, Text):
            parts.append(f"<p{' class=note' if block.note else ''}>{html.escape(block.text)}</p>")
        else:
            parts.append(_table(block, folder))
    flush()
    return "\n".join(parts)


def _table(block: Table, folder: Path) -> str:
    there = [source if source and (folder / source).is_file() else "" for source in block.audio]
    plays = [*there, *[""] * (len(block.rows) - len(there))]
    audio = any(plays)
    heads = [f"<th{' class=l' if k < block.numeric else ''}>{html.escape(h)}</th>" for k, h in enumerate(block.head)]
    # beside the name: at the far end of a wide table nobody finds it
    head = "".join([heads[0], *(["<th class=l>first prompt</th>"] if audio else []), *heads[1:]])
    rows = []
    for cells, source in zip(block.rows, plays, strict=True):
        said = [_cell(c, k < block.numeric, k in block.wrap) for k, c in enumerate(cells)]
        player = f'<audio controls preload=none src="{quote(f"{folder.name}/{source}")}"></audio>' if source else ""
        rows.append(f"<tr>{''.join([said[0], *([f'<td class=l>{player}</td>'] if audio else []), *said[1:]])}</tr>")
    title = f"<h3>{html.escape(block.title)}</h3>"
    return f"{title}<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def as_markdown(found: Sequence[Block]) -> str:
    """Blocks as Markdown; forest plots are left to the page."""
    parts = []
    for block in found:
        if isinstance(block, Text):
            parts.append(block.text)
        elif isinstance(block, Table):
            parts.append(f"**{block.title}**\n\n{grid(block.head, block.rows, block.numeric)}")
    return "\n\n".join(parts)


def collect(out: Path) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Results and tables of a folder, shipped experiments first, in the order in which they are worth running."""
    results = {path.parent.name: read_json(path) for path in sorted(out.glob("*/result.json"))}
    if not results:
        raise FileNotFoundError(f"{out} holds no */result.json: run an experiment first")
    order = [*(n for n in names() if n in results), *(n for n in results if n not in names())]
    for result in results.values():
        for cell in result["cells"].values():
            if "why" in cell:
                # reports are published: a reason names the file, not whose folder it was in
                cell["why"] = re.sub(r"(?<![\w<.])/(?:[^\s/:,;]+/)+", "…/", cell["why"])
    return [(results[name], _table_of(out / name / "table.json", results[name])) for name in order]


def _table_of(path: Path, result: dict[str, Any]) -> dict[str, Any] | None:
    """The table of an experiment; one of an earlier layout is left out, and the question then says so."""
    if not path.is_file():
        return None
    table: dict[str, Any] = read_json(path)
    if table.get("version") == VERSION:
        return table
    result["question"] += f" (Its table is of an earlier layout and not shown: `{result['command']}` judges it again.)"
    return None


def write_report(out: Path, opening: Sequence[Block] = ()) -> None:
    """Write ``index.html`` and ``README.md`` into a folder of experiments.

    Args:
        out: the folder.
        opening: what stands before the experiments.
    """
    found = collect(out)
    links, sections, texts = [], [], []
    for result, evaluation in found:
        name, title = result["experiment"], result["title"]
        said = blocks(result, evaluation)
        anchor = html.escape(name)
        links.append(f'<a href="#{anchor}">{html.escape(title)}</a>')
        sections.append(f'<section id="{anchor}"><h2>{html.escape(title)}</h2>{as_html(said, out / name)}</section>')
        texts.append(f"## {title}\n\n{as_markdown(said)}")
    opening = [*opening, *card_blocks([evaluation for _, evaluation in found])]
    prompt = next((r["first_prompt"]["prompt"] for r, _ in found if "first_prompt" in r), "")
    heard = f'<p class=note>Players: the first prompt, "{html.escape(prompt)}".</p>' if prompt else ""
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>Experiments</title><style>{STYLE}</style><main><h1>Experiments</h1><nav>{''.join(links)}</nav>"
        f"<p class=note>{LEGEND}</p>{heard}{as_html(opening, out)}{''.join(sections)}</main></html>\n"
    )
    write_text(out / "index.html", page)
    write_text(out / "README.md", "\n\n".join(["# Experiments", LEGEND, as_markdown(opening), *texts]) + "\n")
