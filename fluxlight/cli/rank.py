"""``fluxlight rank``: the challenge rank of any set of results."""

from __future__ import annotations

import sys

from fluxlight.challenge.rank import borda_points, borda_rank
from fluxlight.cli.arguments import Arguments
from fluxlight.metrics.direction import lower_measures
from fluxlight.tables import read_results


def main(args: list[str]) -> int:
    """Run the verb."""
    parser = Arguments(
        prog="fluxlight rank",
        description="Points = systems strictly beaten, summed over the measures (ATTM challenge).",
    )
    parser.add_argument("results", help="JSON system -> measure -> value, a table system,measure..., or table.json")
    parser.add_argument("--measures", nargs="+", help="which measures count (default: all)")
    parser.add_argument("--lower", nargs="*", default=[], metavar="MEASURE",
                        help="measures where small wins, besides those called so (FAD, KAD, KL, loss)")  # fmt: skip
    parser.add_argument("--higher", nargs="*", default=[], metavar="MEASURE",
                        help="measures where large wins, besides those called so (CLAP, reward, MOS)")  # fmt: skip
    chosen = parser.parse_args(args)
    results = read_results(chosen.results)
    if chosen.measures:
        known = {m for row in results.values() for m in row}
        if unknown := sorted(set(chosen.measures) - known):
            raise ValueError(
                f"--measures: {', '.join(unknown)} is in no row: choose among {', '.join(sorted(known))}"
            )
        results = {system: {m: row[m] for m in chosen.measures if m in row} for system, row in results.items()}
    measures = list(dict.fromkeys(m for row in results.values() for m in row))
    lower = lower_measures(measures, chosen.lower, chosen.higher)
    points, rank = borda_points(results, lower), borda_rank(results, lower)
    for system in sorted(results, key=lambda name: (rank[name], name)):
        print(f"{rank[system]:4d}  {points[system]:4d} points  {system}")
    # beside the ranking, not in it: its lines are read by other programs
    said = "; ".join(f"{m}: {'lower' if m in lower else 'higher'} is better" for m in measures)
    print(f"fluxlight rank: {said}", file=sys.stderr)
    return 0
