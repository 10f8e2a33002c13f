"""``fluxlight winrate``: what listeners' votes say of two systems, and how far they and the judges can be trusted."""

from __future__ import annotations

import argparse
from pathlib import Path

from fluxlight.cli.arguments import Arguments


def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    p = Arguments(
        prog="fluxlight winrate",
        description="Win rate with interval and sign test from the votes of one or more listeners; with --scores also "
        "an estimate that joins few votes to a judge's scores of all prompts, and what each judge is worth.",
        epilog="Example: fluxlight winrate listening/votes-*.csv --scores table/scores.json --table votes.csv",
    )
    add = p.add_argument
    add("votes", nargs="+", metavar="VOTES", help="CSV of `fluxlight listen`'s page, one for each listener")
    add("--scores", help="scores.json of an evaluation of both systems on all prompts of the session")
    add("--of", metavar="SYSTEM", help="whose win rate (the second one of the session beside the votes; without one "
        "the last by name)")  # fmt: skip
    add("--look", type=int, metavar="K", help="this is the K-th look at growing votes: its level is what is due to it")
    add("--table", metavar="CSV", help="write the votes of all listeners as one table for `fluxlight votes`, without "
        "the clips that were heard against themselves")  # fmt: skip
    add("--out", help="folder for winrate.json and winrate.md")
    return p


def main(args: list[str]) -> int:
    """Run the verb."""
    given = parser().parse_args(args)
    from fluxlight.files import read_json, write_json, write_text
    from fluxlight.listening.ballots import read_ballots, systems_of, write_table
    from fluxlight.listening.session import SESSION
    from fluxlight.listening.summary import markdown, summarise

    ballots = read_ballots(given.votes)
    if given.scores and not Path(given.scores).is_file():
        raise FileNotFoundError(f"--scores: {given.scores} does not exist: give scores.json of `fluxlight evaluate`")
    beside = Path(given.votes[0]).parent / SESSION
    order = read_json(beside)["systems"] if beside.is_file() else systems_of(ballots)
    system = given.of or (order if set(order) == set(systems_of(ballots)) else systems_of(ballots))[-1]
    result = summarise(ballots, system, read_json(given.scores) if given.scores else None, given.look)
    text = markdown(result)
    print(text, end="")
    if given.table:
        print(f"\n{write_table(ballots, given.table)} votes -> {given.table}")
    if given.out:
        write_json(Path(given.out) / "winrate.json", result)
        write_text(Path(given.out) / "winrate.md", text)
    return 0
