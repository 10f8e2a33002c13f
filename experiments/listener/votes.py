"""Votes of a planted listener who dislikes drums, as ``fluxlight votes`` reads them: ``experiments.listener.votes``.

The listener votes on real clips of the corpus, whose drums are known because we composed them, and errs now and then:
a is preferred with probability sigmoid(DISLIKE (drums of b - drums of a)) (Bradley-Terry). No clip is in two tables.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fluxlight.cli import told
from fluxlight.cli.arguments import Arguments, within
from fluxlight.clips.write import write_audio
from fluxlight.data.sources import CorpusSplit
from fluxlight.files import write_json, write_text
from fluxlight.progress import track
from fluxlight.random import generator

DISLIKE = 3.0
"""Log-odds against drums: 95 % of the votes on a clip with and one without them go against the drums (our choice)."""
TABLES = {"train": 0.6, "val": 0.2, "test": 0.2}
"""Table -> share of the clips and of the votes (our choice)."""


def main(args: Sequence[str] | None = None) -> int:
    """Write ``clips/<id>.flac``, ``train.csv``, ``val.csv``, ``test.csv`` and ``drums.json``, the truth."""
    parser = Arguments(prog="experiments.listener.votes", description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=within(20), default=240, help="clips of the training split to choose from")
    parser.add_argument("--votes", type=within(20), default=600, help="votes in all (600)")
    parser.add_argument("--seed", type=within(0), default=7, help="of pairs and of the listener's errors (7)")
    parser.add_argument("--out", type=Path, required=True, help="folder of tables and clips")
    given = parser.parse_args(args)
    source, rate = CorpusSplit("train", clips=given.clips), CorpusSplit.sample_rate
    rows = source.rows
    drums = balanced({row["id"]: bool(row["tags"]["drums"]) for row in rows})
    for k, row in enumerate(track(rows, "clips for the listener", unit="clip")):
        path = given.out / "clips" / f"{row['id']}.flac"
        if row["id"] in drums and not path.is_file():
            write_audio(path, source.audio(k, k + 1)[0], rate)
    for number, (name, ids) in enumerate(split(drums).items()):
        votes = cast(ids, drums, round(TABLES[name] * given.votes), generator(given.seed, number))
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("a", "b", "winner"))
        table.writerows((f"clips/{a}.flac", f"clips/{b}.flac", winner) for a, b, winner in votes)
        write_text(given.out / f"{name}.csv", text.getvalue())
    write_json(given.out / "drums.json", drums)
    return 0


def balanced(drums: dict[str, bool]) -> dict[str, bool]:
    """The first clips of both kinds, as many of each: three of four clips of the corpus have drums."""
    kinds = [[i for i, own in drums.items() if own == has] for has in (False, True)]
    few = min(map(len, kinds))
    kept = {i for ids in kinds for i in ids[:few]}
    return {i: own for i, own in drums.items() if i in kept}


def split(drums: dict[str, bool]) -> dict[str, list[str]]:
    """Table -> its clips: of those with drums, and of those without, each table has its share."""
    found: dict[str, list[str]] = {name: [] for name in TABLES}
    for has in (False, True):
        ids, start = [i for i, own in drums.items() if own == has], 0.0
        for name, share in TABLES.items():
            stop = start + share * len(ids)
            found[name] += ids[round(start) : round(stop)]
            start = stop
    return found


def cast(
    ids: Sequence[str], drums: dict[str, bool], count: int, draw: torch.Generator
) -> list[tuple[str, str, str]]:
    """``count`` votes (a, b, winner) on pairs of different clips; half of the pairs differ in drums.

    Args:
        ids: clips that may be heard.
        drums: id -> whether it has drums.
        count: votes.
        draw: of pairs and errors.
    """
    kinds = [[i for i in ids if drums[i] == has] for has in (False, True)]
    if min(map(len, kinds)) < 2:
        raise ValueError(f"{len(kinds[1])} of {len(ids)} clips have drums: at least 2 with and 2 without are needed")

    def one(pool: Sequence[str], other: str = "") -> str:
        left = [i for i in pool if i != other]
        return left[int(torch.randint(len(left), (), generator=draw))]

    votes = []
    for number in range(count):
        a = one(kinds[number % 2])
        b = one(kinds[1 - number % 2]) if number % 4 < 2 else one(kinds[number % 2], a)
        advantage = DISLIKE * (drums[b] - drums[a])
        if advantage == 0:
            votes.append((a, b, "tie"))
        else:
            wins = float(torch.rand((), generator=draw)) < 1 / (1 + math.exp(-advantage))
            votes.append((a, b, "a" if wins else "b"))
    return votes


def area_under_curve(scores: np.ndarray, truth: np.ndarray) -> float:
    """Probability that a random true one scores above a random false one; ties count half."""
    true, false = scores[truth], scores[~truth]
    above = (true[:, None] > false[None]).mean() + 0.5 * (true[:, None] == false[None]).mean()
    return float(above)


if __name__ == "__main__":
    raise SystemExit(told(main, "experiments.listener.votes"))
