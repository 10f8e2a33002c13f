"""Score heads: every file of this folder is imported, so a class name alone finds its head on a command line."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from fluxlight.heads.base import Injection, Ports, ScoreEmbedder, ScoreHead

for _file in pkgutil.iter_modules(__path__):
    for _name, _value in vars(importlib.import_module(f"{__name__}.{_file.name}")).items():
        if isinstance(_value, type) and issubclass(_value, ScoreHead):
            globals()[_name] = _value

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Heads by class name (found above)."""


__all__ = ["Injection", "Ports", "ScoreEmbedder", "ScoreHead"]
