"""The ATTM challenge: its ranking rule and its submission file."""

from fluxlight.challenge.rank import borda_points, borda_rank

__all__ = ["borda_points", "borda_rank"]
