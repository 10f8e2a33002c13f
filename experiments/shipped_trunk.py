"""The shipped trunk as a run folder, or the trunk of a run as the shipped one. ``experiments.shipped_trunk``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fluxlight.cli import told
from fluxlight.cli.arguments import Arguments
from fluxlight.files import read_json
from fluxlight.files.costs import read_costs, write_costs
from fluxlight.generate.shipped import FILE, pack, shipped_costs, unpack


def main(args: Sequence[str] | None = None) -> int:
    """Unpack it, or pack another."""
    parser = Arguments(prog="experiments.shipped_trunk", description=__doc__)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--out", type=Path, help="run folder to write: bundle, costs.json")
    given.add_argument("--pack", type=Path, metavar="RUN", help="run folder of a trunk that becomes the shipped one")
    found = parser.parse_args(args)
    if found.out is not None:
        # rows that stand on it say so in what they cost
        write_costs(found.out, shipped_costs())
        unpack(found.out / "bundle")
    else:
        # where and on what it was made is nobody's business
        fit = read_json(found.pack / "run.json")["fit"]
        kept = ("updates", "seeds", "history", "versions", "revision")
        print(pack(found.pack, FILE, {key: fit[key] for key in kept} | {"costs": read_costs(found.pack)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(told(main, "experiments.shipped_trunk"))
