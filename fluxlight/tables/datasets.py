"""Tables of published data sets: rows with a path, a caption, tags, or a place within a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from fluxlight.tables.ids import first_double, same
from fluxlight.tables.prompts import TEXT
from fluxlight.tables.read import read_table
from fluxlight.tables.rows import Row, fold, shown


class ListedRow(NamedTuple):
    """A captioned row; what the table does not say is empty. ``other`` has its further columns, names folded."""

    id: str
    path: str
    caption: str
    other: dict[str, Any]
    line: int


class TaggedRow(NamedTuple):
    """A track and its tags."""

    track: str
    path: str
    tags: tuple[str, ...]


class SegmentRow(NamedTuple):
    """A part of a file: from sample ``start`` to before ``stop``."""

    id: str
    name: str
    start: int
    stop: int
    line: int


def read_listed_rows(
    path: str | os.PathLike[str], ids: Sequence[str], what: str, paths: bool = True
) -> list[ListedRow]:
    """Captioned rows of any table.

    Args:
        path: of the table.
        ids: names of the id's column, the first that is there. Where there is none, the path is the id, and that of
            a path that stands again with another caption is ``path#2`` and so on.
        what: noun for messages.
        paths: whether every row must have a path.
    """
    table = read_table(path, what, (*TEXT, *(("path",) if paths else ids)))
    found, named, seen = list[ListedRow](), True, dict[str, int]()
    for row in table.rows:
        if not isinstance(row.value, dict):
            wanted = f"{'path' if paths else ids[0]} and caption"
            raise row.fault(f"is {shown(row.value)}: each row has {wanted}, named in the first line or as JSON keys")
        file = _text(row, "path") if paths else ""
        caption = _text(row, *reversed(TEXT))
        id = row.get(*ids)
        if named and (id is None or id == ""):
            if found or not paths:
                raise row.fault(f"has no {ids[0]}" + (" though other rows have: give all of them ids" if found else ""))
            named = False
        if not named:
            seen[same(file)] = seen.get(same(file), 0) + 1
            id = file if seen[same(file)] == 1 else f"{file}#{seen[same(file)]}"
        known = {*ids, "path", *TEXT}
        other = {fold(name): value for name, value in row.value.items() if fold(name) not in known}
        found.append(ListedRow(row.text(id, ids[0]).strip(), file, caption, other, row.line))
    if double := first_double(row.id for row in found):
        raise table.rows[double[1]].fault(
            f"{ids[0]} {shown(found[double[1]].id)} is given twice, first on {table.rows[double[0]].place}: "
            "rename one, or take it out"
        )
    if double := first_double(f"{row.path}\n{row.caption}" for row in found if row.path):
        raise table.rows[double[1]].fault(
            f"{shown(found[double[1]].path)} has this caption already, on {table.rows[double[0]].place}: take one out"
        )
    return found


def read_tagged_rows(path: str | os.PathLike[str]) -> list[TaggedRow]:
    """Rows of MTG-Jamendo's TSV files, whose last column, TAGS, is the rest of the line."""
    table = read_table(path, "MTG-Jamendo table", ("path", "tags", "track_id"), rest="tags")
    found = []
    for row in table.rows:
        if not isinstance(row.value, dict):
            raise row.fault("the first line must name the columns TRACK_ID, PATH and TAGS")
        tags = row.get("tags")
        cells = tags if isinstance(tags, tuple) else (tags,)
        said = tuple(text for cell in cells if cell is not None and (text := row.text(cell, "TAGS").strip()))
        if not said:
            raise row.fault("has no tag: take the row out")
        found.append(TaggedRow(str(row.get("track_id") or ""), _text(row, "path"), said))
    if double := first_double(row.path for row in found):
        raise table.rows[double[1]].fault(
            f"{shown(found[double[1]].path)} is given twice, first on {table.rows[double[0]].place}: take one out"
        )
    return found


def read_segment_rows(path: str | os.PathLike[str]) -> list[SegmentRow]:
    """Rows ``id name start_sample end_sample`` (FACTS section 8)."""
    table = read_table(path, "segment table", ("start_sample", "end_sample"))
    found = []
    for row in table.rows:
        if not isinstance(row.value, dict):
            raise row.fault("the first line must name the columns id, name, start_sample and end_sample")
        start, stop = (_sample(row, name) for name in ("start_sample", "end_sample"))
        if start >= stop:
            raise row.fault(f"start_sample {start} is not before end_sample {stop}: mend one of them")
        found.append(SegmentRow(_text(row, "id"), _text(row, "name"), start, stop, row.line))
    if double := first_double(row.id for row in found):
        raise table.rows[double[1]].fault(
            f"id {shown(found[double[1]].id)} is given twice, first on {table.rows[double[0]].place}: rename one"
        )
    return found


def _text(row: Row, *names: str) -> str:
    value = row.get(*names)
    text = "" if value is None else row.text(value, names[0])
    if not text.strip():
        raise row.fault(f"{names[0]} is missing: give every row one, or take the row out")
    return text if names[0] in TEXT else text.strip()


def _sample(row: Row, name: str) -> int:
    value = row.get(name)
    try:
        number = int(str(value))
        if isinstance(value, bool) or number < 0:
            raise ValueError
    except ValueError:
        raise row.fault(f"{name} is {shown(value)}: write a whole number from 0") from None
    return number
