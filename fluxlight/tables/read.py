"""The base reader: a file to a `Table`, by its suffix in any case."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from fluxlight.tables import cells, objects
from fluxlight.tables.rows import BadTable, Row, Table
from fluxlight.tables.text import LINE_END, STDIN, read_text

DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_table(
    path: str | os.PathLike[str], what: str, columns: Collection[str], plain: bool = False, empty: str = "rows",
    rest: str = "",
) -> Table:  # fmt: skip
    """Rows of a file.

    Args:
        path: ``.tsv``, ``.csv``, ``.json``, ``.jsonl``, anything else is text; ``-`` is standard input.
        what: noun for messages, for instance "prompts file".
        columns: names, folded, one of which a header holds.
        plain: whether a text is one row a line; else its columns are sought as in a TSV.
        empty: what an empty table lacks, for the message.
        rest: name, folded, of a last column that takes all further cells of a line, as a tuple.

    Raises:
        FileNotFoundError: no such file.
        BadTable: anything that does not fit, in one line.
    """
    where, text = read_text(path, what)
    suffix = _sniffed(text) if os.fspath(path) == STDIN else Path(path).suffix.lower()
    if suffix == ".json":
        table = objects.parse(text, where)
    elif suffix in (".jsonl", ".ndjson"):
        table = objects.parse_lines(text, where)
    elif suffix in DELIMITERS or not plain:
        table = cells.parse(text, where, DELIMITERS.get(suffix, "\t"), columns, rest)
    else:
        lines = enumerate((line.strip() for line in LINE_END.split(text)), 1)
        table = Table(where, "lines", [Row(where, number, line) for number, line in lines if line])
    if not table.rows:
        raise BadTable(where, None, f"holds no {empty}: there is none to read, write at least one")
    return table


def _sniffed(text: str) -> str:
    """Suffix of what comes from standard input: JSON, JSON lines or text."""
    lines = [line for line in LINE_END.split(text.strip()) if line.strip()][:2]
    if not lines or lines[0][0] not in "[{":
        return ".txt"
    one_each = len(lines) == 2 and all(line.startswith("{") and line.rstrip().endswith("}") for line in lines)
    return ".jsonl" if one_each else ".json"
