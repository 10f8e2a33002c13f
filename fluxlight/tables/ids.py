"""Ids are keys: when two are the same, and what a clip's file is called."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable


def same(id: str) -> str:
    """What two ids have in common when they are one: an accent may be one letter or two (macOS writes NFD names)."""
    return id if id.isascii() else unicodedata.normalize("NFC", id)


def clip_name(id: str) -> str:
    """Name of the file of an id, without suffix: anything but letters, digits, ``_``, ``.`` and ``-`` is a dash."""
    return re.sub(r"[^\w.-]+", "-", same(id)).lstrip(".")


def first_double(ids: Iterable[str]) -> tuple[int, int] | None:
    """Positions of the first id that was there before: (before, again); None where ids are keys."""
    seen: dict[str, int] = {}
    for position, id in enumerate(ids):
        if (before := seen.setdefault(same(id), position)) != position:
            return before, position
    return None
