"""Prompts from a file: a slice without audio, the published SDD-100 among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from fluxlight.data.sources import Source
from fluxlight.files import sha256
from fluxlight.tables import read_prompt_rows
from fluxlight.weights import locate


class PromptFile(Source):
    """Prompts of any file that `fluxlight generate` reads, in their order.

    Args:
        path: the file; null is SDD-100, ``sdd100_prompts.json`` in the weights folder.
    """

    sample_rate = 44_100

    def __init__(self, path: str | None = None) -> None:
        # a file of the user's own is a table of any kind, the published one is JSON
        self.path = locate("sdd100_prompts.json") if path is None else Path(path).expanduser()
        # now, not when they are asked for: a file that cannot be read begins no slice
        self._rows = [{"id": row.id, "caption": row.prompt} for row in read_prompt_rows(self.path)]

    @property
    def recipe(self) -> dict[str, Any]:
        """Hash of the file."""
        return {"prompts": sha256(self.path)[:16]}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """``id`` and ``caption`` of every prompt."""
        return self._rows

    def audio(self, start: int, stop: int) -> Tensor:
        """None: prompts have no audio."""
        raise ValueError(f"{self.path} holds prompts without audio: encode with --text_only true")
