"""Votes as they come back from listeners: one or more tables to ballots, and back to one table for training.

What a table must have is what `fluxlight votes` reads, with both systems named. ``id``, ``kind``, ``listener``,
``trial`` and ``session`` are the page's own; a table by hand may leave them out: then the prompt names itself, every
row is a pair, and the file is the listener.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fluxlight.files import write_text
from fluxlight.listening.design import KINDS
from fluxlight.listening.page import COLUMNS
from fluxlight.tables import read_vote_rows

POINTS = {"a": 1.0, "tie": 0.5, "b": 0.0}


@dataclass(frozen=True)
class Ballot:
    """One vote; ``points`` are those of A: 1 won, 0.5 tie, 0 lost."""

    a: Path
    b: Path
    points: float
    prompt: str
    system_a: str
    system_b: str
    id: str
    kind: str
    listener: str
    trial: str
    session: str

    def of(self, system: str) -> float:
        """Points of a system that is in this vote."""
        return self.points if system == self.system_a else 1 - self.points


def read_ballots(tables: Sequence[str | os.PathLike[str]]) -> list[Ballot]:
    """The votes of all tables; a vote that stands in two of them (a file saved early and again) counts once.

    Raises:
        ValueError: a row that cannot be read, tables of different sessions, a listener who voted twice on one trial.
    """
    kept: dict[tuple[str, str], Ballot] = {}
    places: dict[tuple[str, str], str] = {}
    for table in map(Path, tables):
        for place, ballot in _rows(table):
            key = (ballot.listener, ballot.trial)
            before = kept.setdefault(key, ballot)
            if before.session != ballot.session:
                raise ValueError(f"{place}: votes of another session than {places[key]}: take one of the two out")
            if (before.a.name, before.b.name, before.points) != (ballot.a.name, ballot.b.name, ballot.points):
                raise ValueError(
                    f"{place}: {ballot.listener} has voted otherwise on this trial at {places[key]}: "
                    "take one of the two out, or rename one of two listeners of that name"
                )
            places.setdefault(key, place)
    if not kept:
        raise ValueError(f"{', '.join(map(str, tables)) or 'no table'}: there are no votes: give at least one")
    if len(found := sorted({ballot.session for ballot in kept.values()})) > 1:
        raise ValueError(f"votes of {len(found)} sessions ({', '.join(found)}): give those of one")
    if len(systems := systems_of(list(kept.values()))) != 2:
        raise ValueError(f"votes between {len(systems)} systems ({', '.join(systems)}): a win rate is between two")
    return list(kept.values())


def systems_of(ballots: Sequence[Ballot]) -> list[str]:
    """Names of the systems, sorted."""
    return sorted({name for ballot in ballots for name in (ballot.system_a, ballot.system_b)})


def write_table(ballots: Sequence[Ballot], path: str | os.PathLike[str]) -> int:
    """Write what a reward head can learn from, the pairs and repetitions, as one table; returns its rows.

    Clips are named relative to the table. A clip against itself teaches nothing and is left out.
    """
    path, names = Path(path), {points: winner for winner, points in POINTS.items()}
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS)
    rows.writeheader()
    wanted = [ballot for ballot in ballots if ballot.kind != "identical"]
    for ballot in wanted:
        row = {name: getattr(ballot, name) for name in COLUMNS if name not in ("a", "b", "winner")}
        sides = {s: Path(os.path.relpath(getattr(ballot, s), path.parent)).as_posix() for s in ("a", "b")}
        rows.writerow({**row, **sides, "winner": names[ballot.points]})
    write_text(path, text.getvalue())
    return len(wanted)


def _rows(table: Path) -> list[tuple[str, Ballot]]:
    """Place and ballot of every row of one table."""
    if not table.is_file():
        raise FileNotFoundError(f"no votes at {table}: give the CSV that the page of `fluxlight listen` saved")
    found = []
    for row in read_vote_rows(table):
        place = f"{table} line {row.line}"
        if not row.system_a:
            raise ValueError(f"{place}: system_a is missing: a line has a, b, winner and the names of both systems")
        kind = row.kind or "pair"
        if kind not in KINDS:
            raise ValueError(f"{place}: kind is {kind!r}: write {', '.join(KINDS)}, or nothing")
        if (row.system_a == row.system_b) != (kind == "identical"):
            raise ValueError(f"{place}: kind is {kind!r} between {row.system_a} and {row.system_b}: correct one")
        if not (id := row.id or row.prompt):
            raise ValueError(f"{place}: neither id nor prompt says which prompt this is: write one of them")
        said = (id, kind, row.listener or table.stem, row.trial or str(row.line), row.session)
        a, b = table.parent / row.a, table.parent / row.b
        found.append((place, Ballot(a, b, POINTS[row.winner], row.prompt, row.system_a, row.system_b, *said)))
    return found
