"""Votes: which of two clips won."""

from __future__ import annotations

import os
import posixpath
from typing import NamedTuple

from fluxlight.tables.read import read_table
from fluxlight.tables.rows import Row, shown

NEEDED = ("a", "b", "winner")
WINNERS = ("a", "b", "tie")
PAGE = ("id", "kind", "listener", "trial", "session")


class VoteRow(NamedTuple):
    """A vote as the table has it; what it does not say is empty. From ``id`` on: what a listening page adds."""

    a: str
    b: str
    winner: str
    prompt: str
    system_a: str
    system_b: str
    line: int
    id: str = ""
    kind: str = ""
    listener: str = ""
    trial: str = ""
    session: str = ""


def read_vote_rows(path: str | os.PathLike[str]) -> list[VoteRow]:
    """Votes of a table with the columns a, b and winner.

    prompt, system_a and system_b may stand beside them, and the listening page's id, kind, listener, trial and session.
    """
    # winner alone: a and b are what its cells hold
    table = read_table(path, "votes", ("winner",), empty="votes")
    votes = [_vote(row) for row in table.rows]
    for vote, row in zip(votes, table.rows, strict=True):
        if bool(vote.system_a) != bool(vote.system_b) or bool(vote.system_a) != bool(votes[0].system_a):
            raise row.fault("some votes name their systems, some do not: name both in every line, or none")
    return votes


def _vote(row: Row) -> VoteRow:
    if not isinstance(row.value, dict):
        raise row.fault("the column winner is missing: name a, b and winner in the first line, or write JSON objects")
    said = [_said(row, name) for name in (*NEEDED, "prompt", "system_a", "system_b")]
    of_page = [_said(row, name).strip() for name in PAGE]
    a, b, winner = said[0], said[1], said[2].strip().lower()
    if lost := [name for name, value in zip(NEEDED, said, strict=False) if not value.strip()]:
        raise row.fault(f"{lost[0]} is missing: each line has a, b and winner")
    if winner not in WINNERS:
        raise row.fault(f"winner is {shown(said[2])}: write a, b or tie")
    if posixpath.normpath(a) == posixpath.normpath(b):
        raise row.fault(f"a and b are one clip, {shown(a)}: a vote is between two")
    return VoteRow(a, b, winner, said[3], said[4].strip(), said[5].strip(), row.line, *of_page)


def _said(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None else row.text(value, name)
