"""Prompts and captions: ids and texts. One table serves `generate`, `encode`, `evaluate`, `submit` and `select`."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fluxlight.files import read_json
from fluxlight.tables.ids import first_double, same
from fluxlight.tables.read import read_table
from fluxlight.tables.rows import BadTable, Row, Table, fold, shown

TEXT = ("prompt", "caption")
"""Columns of the text, the first of them that is there."""

ID = ("id", "name", "path", "file")
"""Columns of the id, the first of them that is there."""

LONGEST_NAME = 60
"""Letters of a name made from a prompt (our choice: a terminal's width with its folder)."""

STORE = "rows.jsonl"
"""File of a prompt store or a training store that holds its ids and captions."""


class PromptRow(NamedTuple):
    """A prompt, and the line of the file where it is."""

    id: str
    prompt: str
    line: int


def read_prompt_rows(path: str | os.PathLike[str], what: str = "prompts file") -> list[PromptRow]:
    """Prompts of a file, in its order.

    Args:
        path: a table with a column prompt (or caption) and one of ids: id, or name, path, file; a TSV without names is
            id, caption (FACTS section 8); JSON also as a list of texts or an object id -> text; a text is one prompt a
            line; a folder is a prompt store; ``-`` is standard input. Prompts without ids are named by their words.
        what: noun for messages.
    """
    return _read(path, what, True)


def read_ids(path: str | os.PathLike[str], what: str = "prompts file") -> list[str]:
    """Ids of such a file, which may lack the texts."""
    return [row.id for row in _read(path, what, False)]


def rows_file(folder: str | os.PathLike[str]) -> Path:
    """The rows of a store: the file that its meta.json names, for an updated store has another."""
    meta = Path(folder) / "meta.json"
    files = read_json(meta).get("files", {}) if meta.is_file() else {}
    return Path(folder) / (files["rows"][0]["name"] if "rows" in files else STORE)


def _read(path: str | os.PathLike[str], what: str, texts: bool) -> list[PromptRow]:
    folder = Path(path).is_dir()
    if folder and not rows_file(path).is_file():
        raise BadTable(f"{what} {path}", None, f"is a folder without {STORE}: give a file, or a prompt store")
    columns = TEXT if texts else (*TEXT, *ID)
    table = read_table(rows_file(path) if folder else path, what, columns, plain=True, empty="prompts")
    if table.shape == "object" and {fold(str(row.key)) for row in table.rows} >= {"id", "prompt"}:
        raise table.rows[0].fault("one row alone: put it into a list, [{...}]")
    # a store may hold the empty text: it was encoded as such
    found = [_prompt(row, table, texts, texts and not folder) for row in table.rows]
    if all(id is None for id, _ in found):
        if not texts and any(not text for _, text in found):
            raise table.rows[0].fault("has no id: give the prompts with their ids")
        named = name_texts([text for _, text in found])
        return [PromptRow(*pair, row.line) for pair, row in zip(named, table.rows, strict=True)]
    prompts = []
    for (id, text), row in zip(found, table.rows, strict=True):
        if id is None:
            raise row.fault("has no id though other rows have: give all of them ids, or none")
        prompts.append(PromptRow(id, text, row.line))
    if double := first_double(prompt.id for prompt in prompts):
        (one, first), (other, row) = ((prompts[k].id, table.rows[k]) for k in double)
        how = "" if one == other else ", with its accent written otherwise"
        raise row.fault(f"id {shown(other)} is given twice{how}, first on {first.place}: rename one, or take it out")
    return prompts


def _prompt(row: Row, table: Table, texts: bool, worded: bool) -> tuple[str | None, str]:
    """Id, or None, and text of one row."""
    id, text = _cells(row, table)
    if not texts and text is None:
        text = ""
    if not isinstance(text, str):
        names = " or ".join(TEXT)
        raise row.fault(f"has no text under {names} (there is {shown(text)}): each row is {{id, prompt}}")
    text = row.text(text, "the prompt")
    if worded and not text.strip():
        raise row.fault("the prompt is empty: write one, or take the row out")
    if id is None or id == "":
        return None, text
    id = row.text(id, "id").strip()
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in id):
        raise row.fault(f"id {shown(id)} holds a line end or a control character: rename it")
    return id or None, text


def _cells(row: Row, table: Table) -> tuple[Any, Any]:
    if table.shape == "lines":
        return None, row.value
    if table.shape == "object":
        return row.key, row.value
    if table.shape == "cells":
        if not table.where.lower().endswith(".tsv"):
            raise row.fault("the first line must name a column prompt (or caption), and id if there are ids")
        if row is table.rows[0] and {fold(cell) for cell in row.value} & set(ID):
            raise row.fault("the first line names no column prompt (or caption): rename the column of the texts")
        if len(row.value) != 2:
            cells = f"{len(row.value)} cell{'s' * (len(row.value) != 1)}"
            raise row.fault(f"{cells} where a table without column names has two: each line is id<TAB>caption")
        return row.value[0], row.value[1]
    if isinstance(row.value, str):
        if not isinstance(table.rows[0].value, str):
            raise row.fault("is a text where other rows are objects: write {id, prompt} everywhere")
        return None, row.value
    if not isinstance(row.value, dict) or isinstance(table.rows[0].value, str):
        raise row.fault(f"is {shown(row.value)} and has no text under prompt: each row is {{id, prompt}}")
    return row.get(*ID), row.get(*TEXT)


def name_texts(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Ids and texts, named by their own words; a name met before gets -2, -3 and so on."""
    named, seen = [], set[str]()
    for text in texts:
        stem = re.sub(r"[\W_]+", "-", same(text).lower()).strip("-")[:LONGEST_NAME].rstrip("-") or "empty"
        name, number = stem, 1
        while name in seen:
            number += 1
            name = f"{stem}-{number}"
        seen.add(name)
        named.append((name, text))
    return named
