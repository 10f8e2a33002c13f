"""``fluxlight listen``: a blind page on which listeners compare two systems."""

from __future__ import annotations

import argparse
from pathlib import Path

from fluxlight.cli.arguments import Arguments, named

SYSTEM = named("SYSTEM=FOLDER")


def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    p = Arguments(
        prog="fluxlight listen",
        description="Write a blind page: two clips of one prompt at one level, in drawn order, played and voted on by "
        "keys. It works from a disk, without network; each listener saves the votes as a CSV.",
        epilog="Example: fluxlight listen before=out/row1 after=out/row2 --prompts slice.json --out listening; open "
        "listening/index.html; then fluxlight winrate listening/votes-*.csv",
    )
    add = p.add_argument
    add("systems", nargs=2, type=SYSTEM, metavar="SYSTEM=FOLDER", help="two folders of audio, one file <prompt id>."
        "wav|flac|mp3 each, with the names the votes will have")  # fmt: skip
    add("--prompts", required=True, help="JSON list of {id, prompt}, CSV id,prompt, or a prompt store")
    add("--out", required=True, help="folder for index.html, session.json and clips/; move it as a whole")
    add("--pairs", type=int, help="prompts that one listener hears, drawn from all (all)")
    add("--repeats", type=float, default=0.1, help="share of pairs that come again with swapped sides (0.1)")
    add("--identical", type=float, default=0.05, help="clips against themselves, as a share of the pairs (0.05)")
    add("--orders", type=int, default=8, help="orders to deal; a listener's name picks one (8)")
    add("--lufs", type=float, default=-23.0, help="level of every clip, lowered for all alike where a peak would "
        "exceed full scale (-23)")  # fmt: skip
    add("--heard", type=float, default=1.0, help="seconds of each clip to hear before a vote counts (1)")
    add("--seed", type=int, default=0, help="of orders and names of clips (0)")
    return p


def main(args: list[str]) -> int:
    """Run the verb."""
    given = parser().parse_args(args)
    from fluxlight.listening.session import make_session
    from fluxlight.prompts import read_prompts

    if given.systems[0][0] == given.systems[1][0]:
        raise ValueError(f"both systems are named {given.systems[0][0]}: give them two names")
    made = make_session(
        dict(given.systems), read_prompts(given.prompts), given.out, given.seed, given.pairs, given.repeats,
        given.identical, given.orders, given.lufs, given.heard,
    )  # fmt: skip
    for clip in made["silent"]:
        print(f"without a level (silent, or under 0.4 s), played as it is: {clip}")
    count = len(made["orders"][0])
    print(f"{count} trials a listener at {made['lufs']:.1f} LUFS, session {made['session']}: open "
          f"{Path(given.out) / 'index.html'} in a browser")  # fmt: skip
    return 0
