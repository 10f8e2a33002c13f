"""``fluxlight rank``: the challenge rank of any set of results."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from fluxlight.challenge.rank import borda_points, borda_rank
from fluxlight.cli.arguments import Arguments
from fluxlight.files import no_double, read_json
from fluxlight.metrics.direction import lower_measures


def read_results(path: str) -> dict[str, dict[str, float]]:
    """System -> measure -> value from JSON of that shape, a CSV ``system,measure...`` or an evaluation's table.json."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"results file {path} does not exist")
    if path.endswith(".csv"):
        with open(path, encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            rows = list(table)
        if not rows or "system" not in rows[0]:
            raise ValueError(f"{path}: the first line must name the columns system and one per measure")
        no_double([str(name).strip() for name in table.fieldnames or ()], f"{path}: measure")
        no_double([str(row["system"]).strip() for row in rows], f"{path}: system")
        found: Any = {str(row.pop("system")).strip(): row for row in rows}
    else:
        found = read_json(path)
    if isinstance(found, dict) and "tables" in found:
        systems = next(iter(found["tables"].values()))["systems"]
        found = {
            name: {
                **{d: value["value"] for d, value in entry.get("distances", {}).items() if d != "diversity"},
                **{m: value["mean"] for m, value in entry["scores"].items()},
            }
            for name, entry in systems.items()
        }
    try:
        results = {system: {m.strip(): float(value) for m, value in row.items()} for system, row in found.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            f"{path}: every system needs a number for every measure (system -> measure -> value)"
        ) from None
    if short := [system for system, row in found.items() if len(results[system]) < len(row)]:
        raise ValueError(f"{path}: system {short[0]} has a measure twice: keep one of the two")
    return results


def main(args: list[str]) -> int:
    """Run the verb; a bad input is one line on stderr and exit code 2."""
    parser = Arguments(
        prog="fluxlight rank",
        description="Points = systems strictly beaten, summed over the measures (ATTM challenge).",
    )
    parser.add_argument("results", help="JSON system -> measure -> value, CSV system,measure..., or table.json")
    parser.add_argument("--measures", nargs="+", help="which measures count (default: all)")
    parser.add_argument("--lower", nargs="*", default=[], metavar="MEASURE",
                        help="measures where small wins, besides those called so (FAD, KAD, KL, loss)")  # fmt: skip
    parser.add_argument("--higher", nargs="*", default=[], metavar="MEASURE",
                        help="measures where large wins, besides those called so (CLAP, reward, MOS)")  # fmt: skip
    chosen = parser.parse_args(args)
    try:
        results = read_results(chosen.results)
        if chosen.measures:
            known = {m for row in results.values() for m in row}
            if unknown := sorted(set(chosen.measures) - known):
                raise ValueError(
                    f"--measures: {', '.join(unknown)} is in no row (there are {', '.join(sorted(known))})"
                )
            results = {system: {m: row[m] for m in chosen.measures if m in row} for system, row in results.items()}
        measures = list(dict.fromkeys(m for row in results.values() for m in row))
        lower = lower_measures(measures, chosen.lower, chosen.higher)
        points, rank = borda_points(results, lower), borda_rank(results, lower)
    except (ValueError, OSError) as error:
        print(f"fluxlight rank: {error}", file=sys.stderr)
        return 2
    for system in sorted(results, key=lambda name: (rank[name], name)):
        print(f"{rank[system]:4d}  {points[system]:4d} points  {system}")
    # beside the ranking, not in it: its lines are read by other programs
    said = "; ".join(f"{m}: {'lower' if m in lower else 'higher'} is better" for m in measures)
    print(f"fluxlight rank: {said}", file=sys.stderr)
    return 0
