"""Best against worst of each prompt (FACTS section 10: by CLAP)."""

from __future__ import annotations

from collections.abc import Iterator

from fluxlight.mining.pairs.base import Pair, PairBuilder
from fluxlight.mining.select import Row


class Extremes(PairBuilder):
    """Per prompt the candidate with the highest ``key`` against the one with the lowest.

    Args:
        key: score column that ranks (published: clap).
        margin: pairs whose scores differ by no more than this are left out. At 0, upstream's rule, only prompts whose
            candidates all tie are left out: there upstream would pair a clip with itself.
    """

    name = "extremes"

    def __init__(self, key: str = "clap", margin: float = 0.0) -> None:
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
            # max and min take the first of equals: the smaller key
            best, worst = max(group, key=lambda row: row[self.key]), min(group, key=lambda row: row[self.key])
            pair = Pair(best, worst, self.key)
            if pair.margin > self.margin:
                yield pair
