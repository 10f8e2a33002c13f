"""Random draws that depend on a key and on nothing else: the same on every device and after every resume."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def generator(*key: int) -> torch.Generator:
    """A CPU generator for the non-negative integers of ``key``, for instance (seed, epoch, batch index)."""
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    # manual_seed takes 63 bits without wrapping
    return torch.Generator().manual_seed(state >> 1)


def words(name: str) -> tuple[int, ...]:
    """A name as part of a key: 64 bits of its SHA-256; nothing for the empty name, which leaves a key as it is."""
    return (int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"),) if name else ()


def permutation(n: int, *key: int) -> np.ndarray:
    """A permutation of 0 .. n - 1 as ``(n,)`` int64, a function of ``key`` alone."""
    return np.random.default_rng(np.random.SeedSequence(key)).permutation(n)
