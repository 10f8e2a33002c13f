"""Prompts from a file: a slice without audio, the published SDD-100 among them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from torch import Tensor

from fluxlight.data.sources import Source
from fluxlight.files import sha256
from fluxlight.weights import locate


class PromptFile(Source):
    """Prompts of a JSON list of {id, prompt} or a CSV with columns id and prompt, in their order.

    Args:
        path: the file; null is SDD-100, ``sdd100_prompts.json`` in the weights folder.
    """

    sample_rate = 44_100

    def __init__(self, path: str | None = None) -> None:
        self.path = locate("sdd100_prompts.json", path)

    @property
    def recipe(self) -> dict[str, Any]:
        """Hash of the file."""
        return {"prompts": sha256(self.path)[:16]}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """``id`` and ``caption`` of every prompt."""
        from fluxlight.prompts import read_prompts

        return [{"id": prompt.id, "caption": prompt.prompt} for prompt in read_prompts(self.path)]

    def audio(self, start: int, stop: int) -> Tensor:
        """None: prompts have no audio."""
        raise ValueError(f"{self.path} holds prompts without audio: encode with --text_only true")
