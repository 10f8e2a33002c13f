"""What a listener hears in which order: a function of the seed alone, so that anyone can deal it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

KINDS = ("pair", "repeat", "identical")
"""A pair of two systems; the same pair again with its sides swapped; one clip against itself."""
GAP = 5
"""Trials that lie at least between a pair and its repetition, where the session is long enough (our choice)."""


@dataclass(frozen=True)
class Trial:
    """One decision: the clips of two systems for one prompt; A is what the page calls A."""

    id: str
    kind: str
    a: str
    b: str


def controls(ids: Sequence[str], systems: Sequence[str], count: int, seed: int) -> list[Trial]:
    """``count`` clips that are to be heard against themselves, the same for every order: systems in turn."""
    draw = np.random.default_rng(np.random.SeedSequence((seed, 0)))
    drawn = draw.choice(len(ids), size=count, replace=count > len(ids))
    return [Trial(ids[k], "identical", s, s) for k, s in zip(drawn, list(systems) * count, strict=False)]


def design(
    ids: Sequence[str],
    systems: Sequence[str],
    seed: int = 0,
    pairs: int | None = None,
    repeats: float = 0.1,
    identical: float = 0.05,
    orders: int = 8,
) -> list[list[Trial]]:
    """Several orders of one session; a listener gets one of them.

    In each order the prompts are a random draw, which is what lets the votes speak for all prompts, and each system is
    A in half of the pairs (of an odd number one of them once more): which half is drawn, so that a listener who likes
    A favours nobody.

    Args:
        ids: of all prompts.
        systems: the two names.
        seed: of everything drawn here.
        pairs: how many prompts a listener hears; null: all.
        repeats: pairs that come again, as a share of the pairs; more than 0 means at least one.
        identical: clips against themselves, likewise.
        orders: how many to deal.
    """
    if len(systems) != 2 or systems[0] == systems[1]:
        raise ValueError(f"systems: {', '.join(systems) or 'none'}: give two of different names")
    n = len(ids) if pairs is None else pairs
    if not 1 <= n <= len(ids):
        raise ValueError(f"pairs is {n}: choose 1 to {len(ids)}, the number of prompts")
    for name, share in (("repeats", repeats), ("identical", identical)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}: choose a share of the pairs between 0 and 1")
    if orders < 1:
        raise ValueError(f"orders is {orders}: at least 1 is needed")
    same = controls(ids, systems, _count(identical, n), seed)
    return [_order(ids, systems, n, _count(repeats, n), same, seed, order) for order in range(1, orders + 1)]


def _count(share: float, n: int) -> int:
    return max(1, round(share * n)) if share > 0 else 0


def _order(
    ids: Sequence[str], systems: Sequence[str], n: int, repeats: int, same: Sequence[Trial], seed: int, order: int
) -> list[Trial]:
    draw = np.random.default_rng(np.random.SeedSequence((seed, order)))
    chosen = draw.permutation(len(ids))[:n]
    sides = draw.permutation((np.arange(n) + draw.integers(2)) % 2)
    pairs = [Trial(ids[k], "pair", systems[s], systems[1 - s]) for k, s in zip(chosen, sides, strict=True)]
    gap = min(GAP, n // 2)
    again = draw.choice(n - gap, size=min(repeats, n - gap), replace=False)
    placed = [(float(k), trial) for k, trial in enumerate(pairs)]
    # a repetition comes somewhere after its pair, a control anywhere
    placed += [(draw.uniform(k + gap, n), Trial(pairs[k].id, "repeat", pairs[k].b, pairs[k].a)) for k in again]
    placed += [(draw.uniform(-1, n), trial) for trial in same]
    return [trial for _, trial in sorted(placed, key=lambda at: at[0])]
