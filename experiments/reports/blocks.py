"""Blocks: what an experiment has to say, as texts, tables and forest plots; one content for the page and its twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fluxlight.measures import better
from fluxlight.report.table import MARK, arrow, drawn, label, number, probability, with_interval


@dataclass(frozen=True)
class Text:
    """A paragraph; ``note`` sets it small."""

    text: str
    note: bool = False


@dataclass(frozen=True)
class Table:
    """A table; ``audio`` gives each row a clip to play and ``wrap`` names columns of prose (page only)."""

    title: str
    head: list[str]
    rows: list[list[str]]
    numeric: int = 1
    audio: list[str] = field(default_factory=list)
    wrap: tuple[int, ...] = ()


@dataclass(frozen=True)
class Line:
    """A row of a forest plot: an estimate with its interval; ``sure`` fills the point."""

    label: str
    value: float
    low: float
    high: float
    sure: bool


@dataclass(frozen=True)
class Forest:
    """A forest plot of one measure (not in the twin of a folder: the tables hold its numbers)."""

    title: str
    lines: list[Line]
    soft: bool = False

    @property
    def labels(self) -> list[str]:
        """Of its rows."""
        return [line.label for line in self.lines]


Block = Text | Table | Forest


def blocks(result: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> list[Block]:
    """Everything about one experiment.

    Args:
        result: its result.json.
        evaluation: its table.json; None when fewer than two cells are there.
    """
    made: list[Block] = [Text(result["question"]), Text(_frame(result, evaluation), note=True)]
    if evaluation is not None:
        optimised = evaluation["frame"]["optimised"]
        for protocol, table in evaluation["tables"].items():
            title = "Cells" if len(evaluation["tables"]) == 1 else f"Cells, {protocol}: {table['loudness']}"
            if result["analysis"] == "matrix":
                made += _matrix(result, table)
            made += _rows(result, optimised)
            made.append(_cells(result, table, optimised, title))
            if table["comparisons"]:
                made += [*_forests(table, optimised), _differences(table, optimised), *_resolution(table)]
        made += _slopes(result, optimised) + _components(result, optimised)
    return made + _lost(result)


def heading(metric: str, optimised: Sequence[str]) -> str:
    """Heading of a measure: its name, a mark where it was optimised, which way is better."""
    return label(metric) + (f" {MARK}" if metric in optimised else "") + arrow(metric)


def reading_order(metrics: Sequence[str], optimised: Sequence[str]) -> list[str]:
    """Distances, then the judges, then what was optimised, diversity last: saved tables have their keys sorted."""

    def rank(metric: str) -> tuple[int, str]:
        return (better(metric) == "lower") * -1 + (metric in optimised) * 2 + (better(metric) == "neither") * 3, metric

    return sorted(dict.fromkeys(metrics), key=rank)


def _frame(result: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> str:
    source = result["source"]
    n = evaluation["frame"]["n"] if evaluation else 0
    updates = ", ".join(f"{step} {count}" for step, count in source["updates"].items())
    cost = f"Its own cells took {result['seconds'] / 60:.1f} minutes" if result["seconds"] else "It made no cell anew"
    machine = f"{result['environment']['cores']} cores"
    other = f"Its trainings have {changed(result)}, unlike the chain's. " if changed(result) else ""
    over = f" Intervals are over {drawn(next(iter(evaluation['tables'].values())))}." if evaluation else ""
    return (
        f"{n} prompts, the same for every cell.{over} Chain {source['chain']} (seed {source['seed']}, updates: "
        f"{updates}; data {source['data']}). {other}{cost} ({machine}, judging not counted). {result['date']}, "
        f"revision {result['environment']['revision'] or 'unknown'}. Made by: {result['command']}"
    )


def changed(result: Mapping[str, Any]) -> str:
    """What ``--set`` has changed in every training, in words; empty for nothing."""
    return ", ".join(f"{key}={value}" for key, value in (result.get("overrides") or {}).items())


def _value(entry: Mapping[str, Any], metric: str) -> str:
    v = entry.get("distances", {}).get(metric) or entry["scores"][metric]
    return with_interval(v["value"] if "value" in v else v["mean"], v["low"], v["high"])


def _cells(result: Mapping[str, Any], table: Mapping[str, Any], optimised: Sequence[str], title: str) -> Table:
    order, systems = table["order"], table["systems"]
    metrics = reading_order([*systems[order[0]].get("distances", {}), *table["metrics"]], optimised)
    head = ["cell", *(heading(m, optimised) for m in metrics), "cost"]
    rows = []
    for name in order:
        cell = result["cells"][name]
        cost = f"chain's {cell['chain']}" if "chain" in cell else f"{cell['seconds'] / 60:.1f} min"
        rows.append([name, *(_value(systems[name], metric) for metric in metrics), cost])
    floor = table.get("floor", {})
    if floor and "unavailable" not in floor:
        known = [with_interval(*(floor[m][k] for k in ("mean", "low", "high"))) if m in floor else "" for m in metrics]
        rows.append(["real against real", *known, ""])
    return Table(title, head, rows, audio=[result.get("audio", {}).get(name, "") for name in order])


def _forests(table: Mapping[str, Any], optimised: Sequence[str]) -> list[Block]:
    made: list[Block] = []
    against = {c["against"] for c in table["comparisons"]}
    for metric in reading_order([c["metric"] for c in table["comparisons"]], optimised):
        lines = [
            Line(c["system"] if len(against) == 1 else f"{c['system']} - {c['against']}", c["difference"], c["low"],
                 c["high"], c["p_holm"] < 0.05)
            for c in table["comparisons"] if c["metric"] == metric
        ]  # fmt: skip
        other = f" against {next(iter(against))}" if len(against) == 1 else ""
        made.append(Forest(f"{heading(metric, optimised)}{other or ', differences'}", lines, metric in optimised))
    return made


def _differences(table: Mapping[str, Any], optimised: Sequence[str]) -> Table:
    """Differences of the judges alone, one row a pair; a star where Holm's p over the whole table is below 0.05."""
    metrics = [m for m in reading_order([c["metric"] for c in table["comparisons"]], optimised) if m not in optimised]
    found = {(c["system"], c["against"], c["metric"]): c for c in table["comparisons"]}
    rows = []
    for system, other in dict.fromkeys((c["system"], c["against"]) for c in table["comparisons"]):
        cells = [found[system, other, metric] for metric in metrics]
        said = [with_interval(c["difference"], c["low"], c["high"], True) + _star(c["p_holm"]) for c in cells]
        rows.append([system, other, *said])
    title = "Differences with 95 % intervals; * Holm p < 0.05 over all measures of the table"
    return Table(title, ["cell", "against", *(heading(m, optimised) for m in metrics)], rows, numeric=2)


def _resolution(table: Mapping[str, Any]) -> list[Block]:
    """A warning where permutations are too few for any p to survive Holm's correction over so many comparisons."""
    drawn = min((c["resamples"] for c in table["comparisons"] if c.get("test") == "swap permutation"), default=0)
    count = len(table["comparisons"])
    if not drawn or count / (drawn + 1) < 0.05:
        return []
    said = (
        f"Measures of a whole set are tested by {drawn} permutations, so p is at least {1 / (drawn + 1):.4f}; Holm's p "
        f"over {count} comparisons can stay above 0.05 however large the difference: read the intervals, or judge "
        f"again with --resamples {100 * count}."
    )
    return [Text(said, note=True)]


def _star(p: float) -> str:
    return " *" if p < 0.05 else ""


def _matrix(result: Mapping[str, Any], table: Mapping[str, Any]) -> list[Block]:
    """FAD and reward B of every pair; what could not be loaded is a dash, and its reason stands below."""
    made: list[Block] = []
    groups = result["groups"]
    columns = [name.split(" in ", 1)[1] for name in next(iter(groups.values()))]
    kept = table["systems"]
    for kind, metric in (("distances", "fad"), ("scores", "reward_b")):
        if metric not in next(iter(kept.values()))[kind]:
            continue
        rows = []
        for group, cells in groups.items():
            values = [
                kept[c][kind][metric]["value" if kind == "distances" else "mean"] if c in kept else None for c in cells
            ]
            rows.append([group, *("-" if v is None else number(v, metric != "fad") for v in values)])
        made.append(Table(f"{heading(metric, ())}: trained with (rows), run through (columns)", ["", *columns], rows))
    return made


def _slopes(result: Mapping[str, Any], optimised: Sequence[str]) -> list[Block]:
    groups = result.get("slope") or {}
    if not groups:
        return []
    metrics = reading_order(list(next(iter(groups.values()))["slopes"]), optimised)
    rows = []
    for group, found in groups.items():
        lines = [found["slopes"][m] for m in metrics]
        span = f"{min(found['settings']):.2f} to {max(found['settings']):.2f}"
        rows.append([group, span, *(with_interval(s["mean"], s["low"], s["high"], True) for s in lines)])
    title = "Slope per unit of score asked for, 95 % over prompts"
    made: list[Block] = [Table(title, ["", "scores", *(heading(m, optimised) for m in metrics)], rows, numeric=2)]
    for metric in metrics:
        lines_of = [Line(g, s["mean"], s["low"], s["high"], s["low"] > 0 or s["high"] < 0)
                    for g, f in groups.items() for s in [f["slopes"][metric]]]  # fmt: skip
        made.append(Forest(f"{heading(metric, optimised)}: slope per unit of score", lines_of, metric in optimised))
    return made


def _components(result: Mapping[str, Any], optimised: Sequence[str]) -> list[Block]:
    groups = result.get("components") or {}
    rows = []
    for group, found in groups.items():
        for metric in reading_order([*found["distances"], *found["scores"]], optimised):
            c = found["scores"].get(metric)
            sd = c["of_mean"] if c else found["distances"][metric]
            spread = f"{sd['sd']:.4f} [{sd['low']:.4f}, {sd['high']:.4f}]"
            rest = ["", "", "", "", ""]
            if c:
                rest = [
                    f"{c['expected']:.4f}",
                    probability(c["p"]),
                    f"{c['seed']:.5f}",
                    f"{c['prompt']:.4f}",
                    f"{c['rest']:.4f}",
                ]
            rows.append([group, heading(metric, optimised), str(sd["k"]), spread, *rest])
    if not rows:
        return []
    head = ["seeds of", "measure", "seeds", "SD between seeds [95 %]", "SD from clips alone", "p",
            "variance: seed", "prompt", "rest"]  # fmt: skip
    note = (
        "SD between seeds: of the mean over all prompts, or of the distance; chi-square interval. p: F test that no "
        "seed moves all prompts together (two-way analysis of variance without repetition). SD from clips alone: what "
        "the rest would give if seeds moved each clip by itself."
    )
    return [Table("Where the variance is", head, rows, numeric=2), Text(note, note=True)]


def _rows(result: Mapping[str, Any], optimised: Sequence[str]) -> list[Block]:
    """Settings of a sweep, one row each over all their seeds."""
    groups = result.get("rows") or {}
    if not groups:
        return []
    one = next(iter(groups.values()))
    metrics, distances = list(one["scores"]), list(one["distances"])
    rows = []
    for name, found in groups.items():
        spread = [
            f"{d['mean']:.4f}" + (f" (SD {d['sd']:.4f})" if "sd" in d else "") for d in found["distances"].values()
        ]
        scores = [with_interval(s["mean"], s["low"], s["high"]) for s in found["scores"].values()]
        rows.append([name, str(len(found["cells"])), *spread, *scores])
    head = ["setting", "seeds", *(heading(m, optimised) for m in [*distances, *metrics])]
    note = (
        "Intervals: training seeds and prompts, crossed. Set distances: mean and standard deviation over seeds. With "
        "one seed the intervals are over prompts alone, and too narrow. "
        + ("Settings are chosen on one half of the slice, by the hash of the prompts' ids; this table is of the other."
           if result.get("half") else "What chose heard these prompts too, so the best of the settings is flattered.")
    )
    made: list[Block] = [Table("Settings over their seeds", head, rows, numeric=1), Text(note, note=True)]
    for metric in metrics:
        lines = [Line(name, d["mean"], d["low"], d["high"], d["low"] > 0 or d["high"] < 0)
                 for name, f in groups.items() if (d := f["differences"].get(metric))]  # fmt: skip
        if lines:
            title = f"{heading(metric, optimised)} vs {result['first']}"
            made.append(Forest(title, lines, metric in optimised))
    return made


def _lost(result: Mapping[str, Any]) -> list[Block]:
    lost = [
        [name, cell["state"], cell.get("why", "")] for name, cell in result["cells"].items() if cell["state"] != "done"
    ]
    return [Table("What is not there, and why", ["cell", "state", "reason"], lost, 3, wrap=(2,))] if lost else []
