"""Prompts for `fluxlight generate`, read as everywhere, and the noise seeds of their candidates."""

from __future__ import annotations

from fluxlight.prompts import from_texts
from fluxlight.prompts import read_prompts as from_file

__all__ = ["from_file", "from_texts", "seeds_of"]


def seeds_of(prompts: int, seed: int, best_of: int = 1) -> list[list[int]]:
    """Noise seeds of the candidates of each prompt: candidate j of prompt i has ``seed + j * prompts + i``."""
    if best_of < 1:
        raise ValueError(f"best_of is {best_of}: at least 1 is needed")
    if not 0 <= seed < 1 << 62:
        raise ValueError(f"seed is {seed}: use 0 to {(1 << 62) - 1}")
    return [[seed + j * prompts + i for j in range(best_of)] for i in range(prompts)]
