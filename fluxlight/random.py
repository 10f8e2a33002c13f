"""Random draws that depend on a key and on nothing else: the same on every device and after every resume."""

from __future__ import annotations

import numpy as np
import torch


def generator(*key: int) -> torch.Generator:
    """A CPU generator for the non-negative integers of ``key``, for instance (seed, epoch, batch index)."""
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    # manual_seed takes 63 bits without wrapping
    return torch.Generator().manual_seed(state >> 1)


def permutation(n: int, *key: int) -> np.ndarray:
    """A permutation of 0 .. n - 1 as ``(n,)`` int64, a function of ``key`` alone."""
    return np.random.default_rng(np.random.SeedSequence(key)).permutation(n)
