"""Score heads: every file of this folder is imported, so a class name alone finds its head on a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluxlight.heads.base import Injection, Ports, ScoreEmbedder, ScoreHead
from fluxlight.recorded import family

globals().update(family(__name__, __path__, ScoreHead))

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Heads by class name (found above)."""


__all__ = ["Injection", "Ports", "ScoreEmbedder", "ScoreHead"]
