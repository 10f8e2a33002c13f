"""Better on every judge that drives (MR-FlowDPO, METHODS 1.8)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations

import numpy as np

from fluxlight.clips.candidates import key_of
from fluxlight.mining.pairs.base import Pair, PairBuilder
from fluxlight.mining.select import Row


class Everywhere(PairBuilder):
    """Pairs of a prompt whose winner leads by much on one score and by something on every other.

    Each score is the primary one in turn: the winner must lead on it by the ``primary``-th percentile of the absolute
    differences between two candidates of a prompt, and on each other score by the ``secondary``-th. The pairs of all
    turns are pooled, each once.

    Args:
        keys: score columns, with commas between them.
        primary, secondary: percentiles, 0 to 100 (published: 95 and 50, of thousands of prompts; ours leave pairs where
            there are few).
        cap: at most so many pairs of a prompt, those with the largest lead in units of its threshold (our choice;
            upstream takes eight candidates of a prompt at random and all their pairs).
    """

    name = "everywhere"
    lacking = "predict several seeds per prompt, or lower primary and secondary"

    def __init__(
        self, keys: str = "reward,clap", primary: float = 50.0, secondary: float = 0.0, cap: int = 2
    ) -> None:
        for name, value in (("primary", primary), ("secondary", secondary)):
            if not 0 <= value <= 100:
                raise ValueError(f"{name} is {value}: it is a percentile, 0 to 100")
        if cap < 1:
            raise ValueError(f"cap is {cap}: it is the number of pairs of one prompt, at least 1")
        self.keys, self.primary, self.secondary, self.cap = keys, primary, secondary, cap

    @property
    def columns(self) -> tuple[str, ...]:
        """The scores."""
        return tuple(key.strip() for key in self.keys.split(","))

    def pairs(self, groups: list[list[Row]]) -> Iterator[Pair]:
        """Of each prompt the `cap` clearest, best first."""
        least: dict[str, list[float]] = {}
        for key in self.columns:
            found = [abs(a[key] - b[key]) for group in groups for a, b in combinations(group, 2)]
            # a lead there must be, also where most candidates tie
            tiny = float(np.finfo(np.float64).tiny)
            least[key] = [max(float(np.percentile(found or [0.0], q)), tiny) for q in (self.primary, self.secondary)]
        for group in groups:
            led: list[tuple[float, Pair]] = []
            for winner, loser in permutations(group, 2):
                for key in self.columns:
                    leads = [Pair(winner, loser, other).margin >= least[other][other != key] for other in self.columns]
                    if all(leads):
                        pair = Pair(winner, loser, key)
                        led.append((pair.margin / least[key][0], pair))
                        break
            led.sort(key=lambda item: (-item[0], key_of(item[1].winner), key_of(item[1].loser)))
            yield from (pair for _, pair in led[: self.cap])
