"""JSON and JSON lines to rows that know their line."""

from __future__ import annotations

import json
import re
from typing import Any

from fluxlight.tables.rows import BadTable, Row, Table, shown

SPACE = re.compile(r"[ \t\r\n]*+")


class _Twice(ValueError):
    """A name stands twice in one object: JSON readers keep one of the two, unsaid."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for k, name in enumerate(names) if name in names[:k]))
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs)


def parse_lines(text: str, where: str) -> Table:
    """One JSON value a line."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line := line.strip(" \t\r"):
            value, end = _value(line, 0, where, number)
            if SPACE.match(line, end).end() < len(line):  # type: ignore[union-attr]
                raise BadTable(where, number, "is not valid JSON (more than one value): write one object a line")
            rows.append(Row(where, number, value))
    return Table(where, "list", rows)


def parse(text: str, where: str) -> Table:
    """A JSON list of rows, or an object key -> row; every row knows the line where it begins."""
    reader = _Reader(text, where)
    opening = reader.next()
    if opening not in ("[", "{"):
        if not opening:
            return Table(where, "list", [])
        reader.value()
        raise BadTable(where, 1, "is JSON but no table: write a list of rows")
    rows, seen = list[Row](), dict[str, int]()
    reader.position += 1
    closing = "]" if opening == "[" else "}"
    while reader.next() != closing or rows:
        line, key = reader.line, None
        if opening == "{":
            key = reader.value()
            if not isinstance(key, str):
                raise BadTable(where, line, "is not valid JSON (a name must be a text): quote it")
            if key in seen:
                raise BadTable(
                    where, line, f"{shown(key)} is given twice, first on line {seen[key]}: rename one, or take it out"
                )
            seen[key] = line
            reader.expect(":")
            reader.next()
        rows.append(Row(where, line, reader.value(), key, len(rows) + 1))
        if reader.next() == closing:
            break
        reader.expect(",")
    reader.position += 1
    if reader.next():
        raise BadTable(where, reader.line, "is not valid JSON (more than one value): write one list of rows")
    return Table(where, "list" if opening == "[" else "object", rows)


class _Reader:
    """A place in a JSON text, and its line."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where, self.position = text, where, 0
        self.line, self._counted = 1, 0

    def next(self) -> str:
        """The next letter that is no space, or nothing at the end."""
        self.position = SPACE.match(self.text, self.position).end()  # type: ignore[union-attr]
        self.line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        return self.text[self.position : self.position + 1]

    def expect(self, letter: str) -> None:
        """Step over ``letter``."""
        if (found := self.next()) != letter:
            there = f"{found!r} where {letter!r} must stand" if found else f"it ends where {letter!r} must stand"
            raise BadTable(self.where, self.line, f"is not valid JSON ({there}): mend it there")
        self.position += 1

    def value(self) -> Any:
        """The value that begins here."""
        found, self.position = _value(self.text, self.position, self.where, self.line)
        return found


def _value(text: str, position: int, where: str, line: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        at = line + text.count("\n", position, error.pos)
        raise BadTable(where, at, f"is not valid JSON ({error.msg}): mend it there") from None
    except _Twice as error:
        raise BadTable(where, line, f"{shown(str(error))} is named twice in one row: keep one of them") from None
    except (ValueError, RecursionError) as error:
        raise BadTable(where, line, f"is not JSON that can be read ({error}): mend it there") from None
