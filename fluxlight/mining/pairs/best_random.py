"""Best of each prompt against any other of it."""

from __future__ import annotations

from collections.abc import Iterator

from fluxlight.clips.candidates import key_of
from fluxlight.mining.pairs.base import Pair, PairBuilder
from fluxlight.mining.select import Row
from fluxlight.random import words


class BestRandom(PairBuilder):
    """Per prompt the candidate with the highest ``key`` against another one, drawn by the hash of its key.

    The losers are then the model's usual clips and not its worst ones, so that less is learned from clips that are
    broken. Our choice.

    Args:
        key: score column that ranks.
        margin: pairs whose scores differ by no more than this are left out.
    """

    name = "best_random"

    def __init__(self, key: str = "reward", margin: float = 0.0) -> None:
        if margin < 0:
            raise ValueError(f"margin is {margin}: it must be at least 0")
        self.key, self.margin = key, margin

    @property
    def columns(self) -> tuple[str, ...]:
        """The key."""
        return (self.key,)

    def pairs(self, groups: list[list[Row]]) -> Iterator[Pair]:
        """One for each prompt, at most."""
        for group in groups:
            best = max(group, key=lambda row: row[self.key])
            others = [row for row in group if row is not best]
            if others:
                pair = Pair(best, min(others, key=lambda row: words(str(key_of(row)))), self.key)
                if pair.margin > self.margin:
                    yield pair
