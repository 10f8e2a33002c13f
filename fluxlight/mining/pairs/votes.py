"""Good and bad clips that are no pairs, for losses that need none."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fluxlight.clips.candidates import key_of
from fluxlight.mining.pairs.base import Pair, PairBuilder
from fluxlight.mining.select import Row


class Votes(PairBuilder):
    """The clips furthest above the mean of their prompt as winners, those furthest below as losers, of any prompts.

    For `KTOLoss`; the other losses compare within a prompt and refuse them. Any column of scores.jsonl will do as a
    key, a listener's vote on single clips (1 or 0) too.

    Args:
        key: score column that ranks.
        share: of all clips that becomes winners, and of all that becomes losers, at most 1/2 (our choice).
    """

    name = "votes"

    def __init__(self, key: str = "reward", share: float = 0.25) -> None:
        if not 0 < share <= 0.5:
            raise ValueError(f"share is {share}: it is that of the winners and of the losers, above 0 and at most 0.5")
        self.key, self.share = key, share

    @property
    def columns(self) -> tuple[str, ...]:
        """The key."""
        return (self.key,)

    def pairs(self, groups: list[list[Row]]) -> Iterator[Pair]:
        """The best with the worst, the second best with the second worst, and so on."""
        ahead: list[tuple[float, Row]] = []
        for group in groups:
            mean = math.fsum(row[self.key] for row in group) / len(group)
            ahead += [(row[self.key] - mean, row) for row in group]
        ahead.sort(key=lambda item: (-item[0], key_of(item[1])))
        for k in range(int(self.share * len(ahead) + 1e-9)):
            (above, winner), (below, loser) = ahead[k], ahead[-1 - k]
            if above > 0 > below:
                yield Pair(winner, loser, self.key)
