"""What a table is made of: rows that know their line, and the one line that says what is wrong with one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fluxlight.files.printable import printable

SHOWN = 60
"""Letters of a foreign value that a message repeats (our choice: a line stays a line)."""


class BadTable(ValueError):
    """What is wrong with a table, in one line of printable letters.

    Args:
        where: the file.
        place: line of the file, from 1, or a row's place; None where the file as a whole is meant.
        what: what is there, and what to do.
    """

    def __init__(self, where: str, place: int | str | None, what: str) -> None:
        place = f"line {place}" if isinstance(place, int) else place
        said = f"{where}: {what}" if place is None else f"{where} {place}: {what}"
        super().__init__(printable(" ".join(said.split())))


def fold(name: str) -> str:
    """A column's name without its case and the space around it."""
    return name.strip().casefold()


def shown(value: Any) -> str:
    """A foreign value as a message shows it."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        where: its file.
        line: where in the file it begins, from 1.
        value: column -> value; or a text; or the cells of a table without names.
        key: under which it stands in a JSON object.
        number: of the row, from 1, where several may share a line (JSON); else 0.
    """

    where: str
    line: int
    value: Any
    key: str | None = None
    number: int = 0

    @property
    def place(self) -> str:
        """Where the row is, for messages."""
        return f"line {self.line}" + (f" row {self.number}" if self.number else "")

    def fault(self, what: str) -> BadTable:
        """The error that names this row."""
        return BadTable(self.where, self.place, what)

    def get(self, *names: str) -> Any:
        """Value of the first of ``names`` that is a column here, in any case; else None."""
        if not isinstance(self.value, dict):
            return None
        for name in names:
            found = [value for column, value in self.value.items() if fold(column) == name]
            if len(found) > 1:
                raise self.fault(f"{name} is there {len(found)} times: keep one of them")
            if found:
                return found[0]
        return None

    def text(self, value: Any, name: str) -> str:
        """``value`` as a text that can be written anywhere; whole numbers are their digits."""
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise self.fault(f"{name} is {shown(value)}: write a text")
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise self.fault(f"{name} holds half a character ({shown(value)}): write the whole one")
        return value


@dataclass(frozen=True)
class Table:
    """Rows of one file.

    Attributes:
        where: the file.
        shape: ``lines`` of text; ``list`` of JSON values; ``object`` of JSON values under keys; ``named`` cells;
            ``cells`` without names, where the first line holds no known column.
        rows: at least one.
    """

    where: str
    shape: Literal["lines", "list", "object", "named", "cells"]
    rows: list[Row]
