"""``fluxlight score``: rewards and CLAP similarities of candidates."""

from __future__ import annotations

from collections.abc import Sequence

from fluxlight.files import claimed
from fluxlight.mining.score import ROWS, score_folder


def main(args: Sequence[str] | None = None) -> int:
    """`fluxlight score --candidates DIR`: any reward and CLAP by class path, the embedded drivers by default."""
    from fluxlight.cli.arguments import settings_of

    defaults = {
        "reward": {"class_path": "fluxlight.rewards.embedded.RewardA"},
        "clap": {"class_path": "fluxlight.encoders.clap_a.ClapA"},
    }
    given = settings_of(score_folder, "fluxlight score", __doc__.split("\n")[0], defaults, args)
    with claimed(given["candidates"]):
        rows = score_folder(**given)
    failed = sum(bool(row["error"]) for row in rows)
    print(f"{len(rows) - failed} candidates scored, {failed} failed -> {given['candidates'] / ROWS}")
    return 0
