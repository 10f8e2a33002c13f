"""Plots: means with intervals and floor, paired differences, and how a measure follows the guidance score."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxlight.files import atomic_path
from fluxlight.measures import better
from fluxlight.metrics.statistics import slope, t_interval
from fluxlight.report.table import MARK, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, BLUE, GREY, RED = "#1f2430", "#8a90a0", "#2a6fbb", "#c9cdd6", "#b8442c"


def new_figure(columns: int, rows: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """An empty figure of ``width`` x ``height`` inches and its axes, row by row."""
    # Figure without pyplot: no global state, no window system
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).ravel())
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(SOFT)
        axis.tick_params(colors=INK, labelsize=9)
        axis.locator_params(axis="x", nbins=6)
    return figure, axes


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, the same bytes for the same figure."""
    with atomic_path(path) as temporary:
        # no software or date metadata: equal results give equal files
        figure.savefig(temporary, dpi=130, format="png", metadata={"Software": None})


def as_svg(figure: Figure, title: str) -> str:
    """A figure as an SVG element for a page, its text as text, the same letters for the same figure."""
    import io

    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    # an element of HTML has no XML head; the title is what a screen reader says
    return text[text.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1).strip()


def _title(metric: str, optimised: Sequence[str]) -> str:
    way = better(metric)
    said = {"neither": "no side is better: compare with real clips", "unknown": "which way is better is not known"}
    return f"{label(metric)}{f' {MARK} optimised' if metric in optimised else ''}\n{said.get(way, f'{way} is better')}"


def plot_means(table: Mapping[str, Any], optimised: Sequence[str], path: str | os.PathLike[str]) -> None:
    """One panel per measure, one point with its 95 % interval per row; the floor as a band under FAD and KAD."""
    systems, order = table["systems"], table["order"]
    distances = list(systems[order[0]].get("distances", {}))
    panels = [("distances", name) for name in distances] + [("scores", name) for name in table["metrics"]]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(columns, rows, 3.4 * columns + 1.2, 0.36 * len(order) * rows + 1.3 * rows)
    y = np.arange(len(order))
    for k, (axis, (kind, name)) in enumerate(zip(axes, panels, strict=False)):
        values = [systems[s][kind][name] for s in order]
        centre = np.array([v["value" if kind == "distances" else "mean"] for v in values])
        error = np.array([[c - v["low"], v["high"] - c] for c, v in zip(centre, values, strict=True)]).T
        colour = SOFT if name in optimised else BLUE
        axis.errorbar(centre, y, xerr=error, fmt="o", color=colour, ecolor=colour, capsize=3, markersize=5)
        floor = table.get("floor", {}).get(name) if kind == "distances" else None
        if floor:
            axis.axvspan(floor["low"], floor["high"], color=GREY, alpha=0.6, lw=0)
            axis.axvline(floor["mean"], color=SOFT, lw=1, ls="--")
            axis.annotate("real vs real", (floor["mean"], -0.75), fontsize=8, color=INK, ha="left", va="center",
                          xytext=(4, 0), textcoords="offset points")  # fmt: skip
        axis.set_title(_title(name, optimised), fontsize=9, color=INK, loc="left")
        axis.set_yticks(y, order if k % columns == 0 else [""] * len(order))
        axis.set_ylim(len(order) - 0.4, -1.1)
        axis.grid(axis="x", color="#eceef2")
        axis.set_axisbelow(True)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel(f"{table['loudness']}; bars: 95 % intervals", fontsize=8, color=SOFT)
    save_figure(figure, path)


def plot_differences(table: Mapping[str, Any], optimised: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Forest plot of the paired differences, one panel per measure; filled where Holm's p is below 0.05."""
    comparisons = table["comparisons"]
    metrics = list(dict.fromkeys(c["metric"] for c in comparisons))
    pairs = list(dict.fromkeys((c["system"], c["against"]) for c in comparisons))
    columns = min(3, len(metrics))
    rows = -(-len(metrics) // columns)
    figure, axes = new_figure(columns, rows, 3.2 * columns + 2.2, 0.4 * len(pairs) * rows + 1.4 * rows)
    for k, (axis, metric) in enumerate(zip(axes, metrics, strict=False)):
        axis.axvline(0, color=INK, lw=1)
        for y, pair in enumerate(pairs):
            c = next(c for c in comparisons if c["metric"] == metric and (c["system"], c["against"]) == pair)
            seen = c["p_holm"] < 0.05
            colour = SOFT if metric in optimised else BLUE
            axis.plot([c["low"], c["high"]], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
            axis.plot(c["difference"], y, "o", color=colour, markersize=6, mfc=colour if seen else "white")
        axis.set_title(_title(metric, optimised), fontsize=9, color=INK, loc="left")
        names = [f"{system} - {other}" for system, other in pairs]
        axis.set_yticks(range(len(pairs)), names if k % columns == 0 else [""] * len(pairs))
        axis.set_ylim(len(pairs) - 0.4, -0.6)
        axis.grid(axis="x", color="#eceef2")
        axis.set_axisbelow(True)
    for axis in axes[len(metrics) :]:
        axis.set_visible(False)
    figure.supxlabel(
        f"difference with 95 % interval; filled: Holm p < 0.05; {table['loudness']}", fontsize=8, color=SOFT
    )
    save_figure(figure, path)


def plot_score_sweep(
    settings: Sequence[float], values: Any, path: str | os.PathLike[str], measure: str = "reward_b",
    central: tuple[float, float] | None = None,
) -> None:  # fmt: skip
    """A measure against the guidance score s, with the per-prompt slope and its interval in the title.

    Args:
        settings: the k scores s.
        values: per-clip values ``(k, n)``, the same prompts and noise in every row.
        path: PNG to write.
        measure: name of the measure.
        central: the range of s that the training scores cover (1st to 99th percentile): shaded, and fitted.
    """
    s, table = np.asarray(settings, dtype=np.float64), np.asarray(values, dtype=np.float64)
    inside = np.ones(s.size, bool) if central is None else (s >= central[0] - 1e-9) & (s <= central[1] + 1e-9)
    means = [t_interval(row) for row in table]
    figure, (axis,) = new_figure(1, 1, 5.6, 3.6)
    if central is not None:
        axis.axvspan(*central, color=GREY, alpha=0.4, lw=0, label="central 98 % of the training scores")
        axis.legend(fontsize=8, frameon=False, loc="upper left")
    centre = np.array([m.mean for m in means])
    error = np.array([[m.mean - m.low, m.high - m.mean] for m in means]).T
    axis.errorbar(s, centre, yerr=error, fmt="o-", color=BLUE, capsize=3, markersize=5, lw=1.2)
    if inside.sum() > 1:
        fit = slope(s[inside].tolist(), table[inside])
        text = f"slope {fit.mean:+.3f} per unit of s, 95 % [{fit.low:+.3f}, {fit.high:+.3f}], {table.shape[1]} prompts"
        axis.set_title(text, fontsize=9, color=RED if fit.low <= 0 <= fit.high else INK, loc="left")
    axis.set_xlabel("guidance score s", fontsize=9)
    axis.set_ylabel(label(measure), fontsize=9)
    axis.grid(color="#eceef2")
    axis.set_axisbelow(True)
    save_figure(figure, path)


def plot_result(result: Mapping[str, Any], folder: str | os.PathLike[str]) -> list[Path]:
    """Means and differences of every loudness protocol as PNG; returns the files.

    Those of an earlier table in the same folder are removed: a page shows every plot beside it.
    """
    written = []
    for old in (path for kind in ("means", "differences") for path in Path(folder).glob(f"{kind}_*.png")):
        old.unlink()
    for protocol, table in result["tables"].items():
        optimised = result["frame"]["optimised"]
        written.append(Path(folder) / f"means_{protocol}.png")
        plot_means(table, optimised, written[-1])
        if table["comparisons"]:
            written.append(Path(folder) / f"differences_{protocol}.png")
            plot_differences(table, optimised, written[-1])
    return written
