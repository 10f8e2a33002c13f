"""Guidance: the velocities of several branches become one.

Every file of this folder is imported, so a class name alone
finds its kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluxlight.guidance.base import Guidance, GuidedVelocity, WeightSchedule
from fluxlight.guidance.guide import guide
from fluxlight.recorded import family

globals().update(family(__name__, __path__, Guidance))

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Kinds by class name (found above)."""


__all__ = ["Guidance", "GuidedVelocity", "WeightSchedule", "guide"]
