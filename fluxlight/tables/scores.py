"""Scores and ranks: a number for every row and column, finite, none missing, none twice."""

from __future__ import annotations

import math
import os
from typing import Any

from fluxlight.tables.ids import same
from fluxlight.tables.read import read_table
from fluxlight.tables.rows import Row, Table, fold, shown

Values = dict[str, dict[str, float]]
"""Row -> column -> value."""


def read_values(path: str | os.PathLike[str], what: str, key: str) -> Values:
    """A number for every row and column.

    Args:
        path: JSON ``row -> column -> value``; or a TSV, CSV, JSON list or JSONL whose column ``key`` names the rows
            while every other is a column of numbers.
        what: noun for messages.
        key: of the rows: "id" or "system".
    """
    return _values(read_table(path, what, (key,)), key)


def read_results(path: str | os.PathLike[str]) -> Values:
    """System -> measure -> value: such a table with the key system, or an evaluation's ``table.json`` (its first)."""
    table = read_table(path, "results file", ("system",))
    by_key = {row.key: row for row in table.rows}
    if table.shape != "object" or "tables" not in by_key:
        return _values(table, "system")
    row = by_key["tables"]
    try:
        systems = next(iter(row.value.values()))["systems"]
        found = {
            name: {
                **{d: value["value"] for d, value in entry.get("distances", {}).items() if d != "diversity"},
                **{m: value["mean"] for m, value in entry["scores"].items()},
            }
            for name, entry in systems.items()
        }
    except (AttributeError, TypeError, KeyError, StopIteration):
        raise row.fault("is no table.json of `fluxlight evaluate`: give one, or system -> measure -> value") from None
    rows = [Row(table.where, row.line, values, name) for name, values in found.items()]
    return _values(Table(table.where, "object", rows), "system")


def _values(table: Table, key: str) -> Values:
    found: Values = {}
    places: dict[str, str] = {}
    for row in table.rows:
        name, cells = _row(row, key, table.shape == "object")
        if before := places.get(same(name)):
            raise row.fault(f"{key} {shown(name)} is given twice, first on {before}: rename one, or take it out")
        places[same(name)] = row.place
        found[name] = {column: _number(row, name, column, value) for column, value in cells.items()}
    columns = list(dict.fromkeys(column for cells in found.values() for column in cells))
    if not columns:
        raise table.rows[0].fault(f"{key} {shown(next(iter(found)))} has no values: write {key} -> name -> number")
    for row, (name, cells) in zip(table.rows, found.items(), strict=True):
        if lacking := [column for column in columns if column not in cells]:
            raise row.fault(f"{key} {shown(name)} has no {lacking[0]}, which others have: add its value")
    return found


def _row(row: Row, key: str, keyed: bool) -> tuple[str, dict[str, Any]]:
    """Name of a row and its cells."""
    if not isinstance(row.value, dict):
        raise row.fault(f"is {shown(row.value)}, no object: write {key} -> name -> number, or name the column {key}")
    if keyed:
        cells = {str(column).strip(): value for column, value in row.value.items()}
        if len(cells) < len(row.value):
            raise row.fault(f"{key} {shown(str(row.key))} names a column twice, but for spaces: keep one of them")
        return str(row.key), cells
    name = row.get(key)
    if name is None or name == "":
        raise row.fault(f"{key} is missing: each row names its {key}")
    return row.text(name, key).strip(), {c.strip(): v for c, v in row.value.items() if fold(c) != key}


def _number(row: Row, name: str, column: str, value: Any) -> float:
    try:
        if isinstance(value, bool | dict | list) or value is None or (isinstance(value, str) and "_" in value):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        raise row.fault(f"{column} of {name} is {shown(value)}: it needs a number") from None
    if not math.isfinite(number):
        raise row.fault(f"{column} of {name} is {number}, not finite: write a number")
    return number
