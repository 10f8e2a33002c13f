"""``fluxlight score``: rewards and CLAP similarities of candidates."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fluxlight.files import claimed
from fluxlight.files.costs import read_costs, write_costs
from fluxlight.mining.score import ROWS, score_folder


def main(args: Sequence[str] | None = None) -> int:
    """`fluxlight score --candidates DIR`: any reward and CLAP by class path, the embedded drivers by default."""
    from fluxlight.cli.arguments import settings_of

    defaults = {
        "reward": {"class_path": "fluxlight.rewards.embedded.RewardA"},
        "clap": {"class_path": "fluxlight.encoders.clap_a.ClapA"},
    }
    given = settings_of(score_folder, "fluxlight score", __doc__.split("\n")[0], defaults, args)
    begun, since = datetime.now(UTC).isoformat(timespec="milliseconds"), time.monotonic()
    with claimed(given["candidates"]):
        rows = score_folder(**given)
        known = read_costs(given["candidates"])
        fresh: dict[str, Any] = {"begun": begun, "seconds": 0.0}
        before: dict[str, Any] = next((dict(cost) for cost in known if cost["stage"] == "scores"), fresh)
        cost = {"stage": "scores", "begun": before["begun"], "updates": 0, "clips": len(rows),
                "seconds": round(before["seconds"] + time.monotonic() - since, 2)}  # fmt: skip
        write_costs(given["candidates"], [*known, cost])
    failed = sum(bool(row["error"]) for row in rows)
    print(f"{len(rows) - failed} candidates scored, {failed} failed -> {given['candidates'] / ROWS}")
    return 0
