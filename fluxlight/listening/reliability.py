"""How far votes can be trusted: what a listener says twice, what nobody can hear, and which side he likes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fluxlight.listening.ballots import Ballot
from fluxlight.listening.winrate import sign_test


@dataclass(frozen=True)
class Reliability:
    """Counts of one listener.

    Attributes:
        listener: name.
        votes: on pairs, first time.
        repeats: pairs heard again with swapped sides.
        same: of those, the same answer.
        reversed: of those, the other system (the rest took or gave up a tie).
        identical: clips against themselves.
        heard_none: of those, no preference.
        side_a, side_b: all votes for A and for B, whatever was there.
        p_side: sign test that both sides are liked equally.
    """

    listener: str
    votes: int
    repeats: int
    same: int
    reversed: int
    identical: int
    heard_none: int
    side_a: int
    side_b: int
    p_side: float


def reliability(ballots: Sequence[Ballot]) -> list[Reliability]:
    """One row for every listener, in the order of the votes."""
    listeners = dict.fromkeys(ballot.listener for ballot in ballots)
    return [_of(name, [ballot for ballot in ballots if ballot.listener == name]) for name in listeners]


def _of(listener: str, ballots: Sequence[Ballot]) -> Reliability:
    first = {ballot.id: ballot for ballot in ballots if ballot.kind == "pair"}
    again = [(first[b.id], b) for b in ballots if b.kind == "repeat" and b.id in first]
    moves = [before.of(before.system_a) - after.of(before.system_a) for before, after in again]
    same = [ballot for ballot in ballots if ballot.kind == "identical"]
    side_a, side_b = (sum(ballot.points == points for ballot in ballots) for points in (1, 0))
    return Reliability(
        listener,
        votes=len(first),
        repeats=len(moves),
        same=moves.count(0),
        reversed=sum(abs(move) == 1 for move in moves),
        identical=len(same),
        heard_none=sum(ballot.points == 0.5 for ballot in same),
        side_a=side_a,
        side_b=side_b,
        p_side=sign_test(side_a, side_b),
    )
