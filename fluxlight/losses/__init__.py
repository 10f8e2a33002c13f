"""Losses over predictions: every file of this folder is imported, so a class name alone finds its loss.

A preference loss compares winner and loser of one caption under policy and reference; a policy loss weighs single clips
by their advantage. The loss of supervised stages is `Prediction.error`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluxlight.losses.base import PolicyLoss, PreferenceLoss
from fluxlight.recorded import family

globals().update(family(__name__, __path__, PreferenceLoss, PolicyLoss))

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Losses by class name (found above)."""


__all__ = ["PolicyLoss", "PreferenceLoss"]
