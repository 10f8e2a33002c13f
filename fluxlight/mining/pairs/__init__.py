"""Pair builders: scored candidates -> preference pairs.

Every file of this folder is imported, so ``fluxlight select pairs --by`` knows a builder by its name.
"""

from __future__ import annotations

from fluxlight.mining.pairs.base import PairBuilder, select_pairs
from fluxlight.recorded import family

_FOUND = [kind for kind in family(__name__, __path__, PairBuilder).values() if kind is not PairBuilder]
BUILDERS: dict[str, type[PairBuilder]] = {kind.name: kind for kind in sorted(_FOUND, key=lambda k: k.name)}  # type: ignore[attr-defined]
"""Every builder by name."""

__all__ = ["BUILDERS", "PairBuilder", "select_pairs"]
