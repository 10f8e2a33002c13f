"""Which way of a measure is better."""

from __future__ import annotations

LOWER_IS_BETTER = frozenset({"fad", "fad_windows", "kad", "mad"})
"""Distances; of all other measures more is better."""
