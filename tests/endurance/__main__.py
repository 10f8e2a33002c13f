"""``python tests/endurance``: the full set, for the background; prints points tried and differences found."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from endurance.commands import COMMANDS  # noqa: E402
from endurance.journey import Endurance, warm  # noqa: E402


def main() -> int:
    """Run what was asked for; 1 where a difference was found."""
    p = argparse.ArgumentParser(prog="python tests/endurance", description=__doc__)
    p.add_argument("names", nargs="*", metavar="COMMAND", help=f"{', '.join(c.name for c in COMMANDS)} (all)")
    p.add_argument("--points", type=int, default=20, help="random ends of each command (20)")
    p.add_argument("--seed", type=int, default=0, help="of the points (0)")
    p.add_argument("--quick", action="store_true", help="only the commands that CI tries")
    given = p.parse_args()
    if unknown := sorted(set(given.names) - {c.name for c in COMMANDS}):
        p.error(f"no command {', '.join(unknown)}")
    chosen = [c for c in COMMANDS if (c.name in given.names or not given.names) and (c.quick or not given.quick)]
    warm()
    total = wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        endurance = Endurance(Path(folder).resolve(), given.seed, lambda line: print(line, flush=True))
        for command in chosen:
            begin = time.monotonic()
            try:
                found = endurance(command, given.points)
            except (RuntimeError, TimeoutError) as error:
                print(f"{command.name}: {error}", flush=True)
                wrong += 1
                continue
            kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(found.kinds.items()))
            print(f"{command.name:<16}{found.points:>4} points on {found.journeys:>3} ways ({kinds}): "
                  f"{len(found.differences)} differences, {time.monotonic() - begin:.0f} s", flush=True)  # fmt: skip
            total, wrong = total + found.points, wrong + len(found.differences)
    print(f"{total} points, {wrong} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
