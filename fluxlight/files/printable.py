"""Foreign text on its way to a terminal: a file name, a caption or a cell may hold commands to it."""

from __future__ import annotations

import re

# control characters but for line end, return and tab; line and paragraph separator; what turns the direction of writing
_COMMANDS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """``text`` with a question mark in the place of every letter that could command a terminal."""
    return _COMMANDS.sub("?", text)
