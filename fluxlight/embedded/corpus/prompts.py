"""Fifty prompts written by hand, as a person would type them: a check of the judges outside the caption templates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluxlight.files import read_json


@dataclass(frozen=True)
class FreePrompt:
    """A prompt and the tags a clip that fits it has.

    Genre and, where the prompt says so, mood, tempo_word and
    instruments (all of which such a clip should hold).
    """

    id: str
    prompt: str
    tags: dict[str, Any]

    def fits(self, tags: dict[str, Any]) -> float:
        """Share of the prompt's tags that a clip's ``tags`` meet, 0 to 1."""
        parts = [float(tags[name] == value) for name, value in self.tags.items() if name != "instruments"]
        parts += [float(name in tags["instruments"]) for name in self.tags.get("instruments", ())]
        return sum(parts) / len(parts)


def free_prompts() -> list[FreePrompt]:
    """The fifty hand-written prompts."""
    return [FreePrompt(**row) for row in read_json(Path(__file__).with_name("free_prompts.json"))]
