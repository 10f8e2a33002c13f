"""``fluxlight rank``: the challenge rank of any set of results."""

from __future__ import annotations

import sys

from fluxlight.challenge.rank import borda_points, borda_rank
from fluxlight.cli.arguments import Arguments
from fluxlight.measures import MEASURES, better
from fluxlight.tables import read_results


def main(args: list[str]) -> int:
    """Run the verb; a bad input is one line on stderr and exit code 2."""
    parser = Arguments(
        prog="fluxlight rank",
        description="Points = systems strictly beaten, summed over the measures (ATTM challenge).",
    )
    parser.add_argument("results", help="JSON system -> measure -> value, a table system,measure..., or table.json")
    parser.add_argument("--measures", nargs="+", help="which measures count (default: all)")
    parser.add_argument("--lower", nargs="*", default=[name for name in MEASURES if better(name) == "lower"],
                        help="measures where small wins (fad fad_windows kad mad)")  # fmt: skip
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
        lower = {m for row in results.values() for m in row if m.lower() in {name.lower() for name in chosen.lower}}
        points, rank = borda_points(results, lower), borda_rank(results, lower)
    except (ValueError, OSError) as error:
        print(f"fluxlight rank: {error}", file=sys.stderr)
        return 2
    for system in sorted(results, key=lambda name: (rank[name], name)):
        print(f"{rank[system]:4d}  {points[system]:4d} points  {system}")
    return 0
