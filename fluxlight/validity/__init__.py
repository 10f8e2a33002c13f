"""Ladders: what every measure says of known damage, and how often it raises a false alarm or misses a true one."""

from fluxlight.validity.damage import LADDERS, Ladder

__all__ = ["LADDERS", "Ladder"]
