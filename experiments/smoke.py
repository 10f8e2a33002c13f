"""Smoke: a small part of every experiment and of every sweep, on a finished chain of any scale: does it all run?

``python -m experiments.chain --scale debug --out DIR && python -m experiments.smoke --from DIR --out DIR2``
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import claims, run, sweep
from experiments.cells.experiment import names
from experiments.cells.judge import RESULT
from fluxlight.cli import told
from fluxlight.cli.arguments import Arguments
from fluxlight.files import read_json

ABSENT = {"Demucs is not in": "its weights are not in the weights folder",
          "predict several seeds per prompt": "so few candidates hold no such pair"}  # fmt: skip
"""Beginning of a reason that is no fault of an experiment -> what it means."""


def main(args: Sequence[str] | None = None) -> int:
    """Run and judge them; 0 when every cell is there but for what this machine or so small a chain cannot have."""
    parser = Arguments(prog="experiments.smoke", description=__doc__.split("\n")[0])
    parser.add_argument("--from", dest="source", required=True, metavar="DIR", help="run folder of a finished chain")
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiments")
    given = parser.parse_args(args)
    words = ["--from", given.source, "--out", str(given.out), "--smoke"]
    sweeps = sorted(claims.SWEEPS.glob("*.yaml"))
    # one process: more of them would spend longer on imports than on such small cells
    if code := run.main(["all", *words]):
        return code
    for path in sweeps:
        if code := sweep.main([str(path), *words, "--jobs", "2"]):
            return code
    claims.main([str(given.out)])
    lost = missing(given.out, [*names(), *(path.stem for path in sweeps)])
    for line in lost:
        run.say(line)
    return 1 if lost else 0


def missing(out: Path, wanted: Sequence[str]) -> list[str]:
    """A line for each cell that should be there and is not."""
    lines = []
    for name in wanted:
        path = out / name / RESULT
        cells = read_json(path)["cells"] if path.is_file() else {"every cell": {"state": "missing"}}
        for cell, found in cells.items():
            if found["state"] != "done" and not any(reason in found.get("why", "") for reason in ABSENT):
                lines.append(f"{name}: {cell} is {found['state']}: {found.get('why', 'no result was written')}")
    return lines


if __name__ == "__main__":
    sys.exit(told(main, "experiments.smoke"))
