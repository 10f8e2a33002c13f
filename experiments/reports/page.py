"""Page: one report of every experiment in a folder, ``index.html`` and its Markdown twin, from the folders alone."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.cells.experiment import names
from experiments.reports.blocks import Block, Forest, Table, Text, blocks
from fluxlight.files import read_json, write_text
from fluxlight.report.table import MARK, grid

INK, SOFT, BLUE = "#1f2430", "#8a90a0", "#2a6fbb"
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
    # as wide as the longest label, which is a difference of two cells
    left = min(LONGEST, max(len(line.label) for line in plot.lines)) * 5.3 + 16
    width, row, top = left + 230, 17, 6
    height = top + row * len(plot.lines) + 24
    ends = [0.0, *(line.low for line in plot.lines), *(line.high for line in plot.lines)]
    low, high = min(ends), max(ends)
    pad = 0.06 * (high - low) or 1.0
    low, high = low - pad, high + pad

    def x(value: float) -> float:
        return round(left + (value - low) / (high - low) * (width - left - 8), 1)

    colour = SOFT if plot.soft else BLUE
    parts = [f'<line x1="{x(0)}" x2="{x(0)}" y1="2" y2="{height - 20}" stroke="{INK}" stroke-width="1"/>']
    for k, line in enumerate(plot.lines):
        y = top + row * (k + 0.5)
        text = line.label if len(line.label) <= LONGEST else line.label[: LONGEST - 1] + "…"
        fill = colour if line.sure else "#fff"
        parts.append(
            f'<text x="{left - 8}" y="{y + 3.5}" text-anchor="end" font-size="10" fill="{INK}">{html.escape(text)}'
            f"<title>{html.escape(line.label)}</title></text>"
            f'<line x1="{x(line.low)}" x2="{x(line.high)}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{x(line.value)}" cy="{y}" r="3.6" fill="{fill}" stroke="{colour}" stroke-width="1.6">'
            f"<title>{line.value:+.4f} [{line.low:+.4f}, {line.high:+.4f}]</title></circle>"
        )
    for value in _ticks(low, high):
        parts.append(
            f'<text x="{x(value)}" y="{height - 6}" text-anchor="middle" font-size="9.5" fill="{SOFT}">{value:g}</text>'
        )
    body = "".join(parts)
    label = html.escape(plot.title, quote=True)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}" font-family="inherit">{body}</svg>'


def _ticks(low: float, high: float) -> list[float]:
    """About four round values within a range."""
    import math

    rough = (high - low) / 4
    unit = 10 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough)
    first = math.ceil(low / step)
    return [round(k * step, 10) + 0.0 for k in range(first, math.floor(high / step) + 1)]


def _cell(text: str, left: bool, wrap: bool = False) -> str:
    match = re.fullmatch(r"(\S+) (\[[^\]]*\])(.*)", text)
    inside = f"{html.escape(match[1] + match[3])}<small>{match[2]}</small>" if match else html.escape(text)
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
        player = f'<audio controls preload=none src="{folder.name}/{source}"></audio>' if source else ""
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
    tables = {n: out / n / "table.json" for n in order}
    return [(results[n], read_json(tables[n]) if tables[n].is_file() else None) for n in order]


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
        links.append(f'<a href="#{name}">{html.escape(title)}</a>')
        sections.append(f'<section id="{name}"><h2>{html.escape(title)}</h2>{as_html(said, out / name)}</section>')
        texts.append(f"## {title}\n\n{as_markdown(said)}")
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
