"""Delimited text to rows: comma, tab or semicolon, quoted or raw cells.

In CSV a cell that begins with a quote is quoted. In TSV most captions are raw, so there a quote counts only where it is
closed at the end of a cell: ``"Lo-fi" beats`` keeps its quotes, ``"a ""punk"" track"`` is what pandas writes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from fluxlight.tables.rows import BadTable, Row, Table, fold
from fluxlight.tables.text import LINE_END

LINE = re.compile(r"([^\r\n]*+)(?:\r\n|\r|\n|\Z)")


def parse(text: str, where: str, delimiter: str, columns: Collection[str], rest: str = "") -> Table:
    """Rows of a delimited text.

    Args:
        text: of the file.
        where: its name.
        delimiter: that its suffix promises; another one is taken where only that gives a known column.
        columns: known names; a first line that holds one of them is a header.
        rest: name of a last column that takes all further cells of a line.
    """
    # one by one: of half a million records none is held twice
    found = ((n, c) for n, c in records(text, where, chosen(text, delimiter, columns)) if any(map(str.strip, c)))
    line, first = next(found, (0, []))
    if not line:
        return Table(where, "cells", [])
    header = [cell.strip() for cell in first]
    if not set(map(fold, header)) & set(columns):
        rows = [Row(where, line, first), *(Row(where, number, cells) for number, cells in found)]
        return Table(where, "cells", rows)
    named = [name for name in header if name]
    if twice := [name for k, name in enumerate(named) if name in named[:k]]:
        raise BadTable(where, line, f"the column {twice[0]} is named twice: rename one of them")
    rows = []
    takes_rest = bool(rest) and fold(header[-1]) == rest
    for number, cells in found:
        if takes_rest and len(cells) >= len(header):
            last = len(header) - 1
            named_cells = dict(zip(header[:last], cells, strict=False))
            rows.append(Row(where, number, {**named_cells, header[last]: tuple(cells[last:])}))
            continue
        if len(cells) > len(header):
            raise BadTable(
                where, number,
                f"{len(cells)} cells where the first line names {len(header)} columns: quote a text that holds "
                f"{'a tab' if delimiter == TAB else 'a comma'}, or take the surplus cell out",
            )  # fmt: skip
        if len(cells) < len(header):
            raise BadTable(
                where, number,
                f"{len(cells)} cell{'s' * (len(cells) != 1)} where the first line names {len(header)} columns: "
                "add the missing cell",
            )  # fmt: skip
        if any(cell.strip() for name, cell in zip(header, cells, strict=True) if not name):
            raise BadTable(where, number, "a cell stands below no name: name its column in the first line")
        rows.append(Row(where, number, {n: c for n, c in zip(header, cells, strict=True) if n}))
    return Table(where, "named", rows)


TAB = "\t"


def chosen(text: str, delimiter: str, columns: Collection[str]) -> str:
    """The delimiter of the first line: spreadsheets write a semicolon or a tab into a ``.csv``, too."""
    lines = (match[1] for match in LINE.finditer(text))
    first = next((line for line in lines if line.strip()), "")
    if delimiter not in first:
        for other in (TAB, ",", ";"):
            if other in first and {fold(cell.strip().strip('"')) for cell in first.split(other)} & set(columns):
                return other
    return delimiter


def records(text: str, where: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of every record."""
    end = re.escape(delimiter)
    # possessive: a quote is tried once, whatever follows
    quoted = re.compile(rf'"([^"]*+(?:""[^"]*+)*+)"(?={end}|\r|\n|\Z)')
    raw = re.compile(rf"[^{end}\r\n]*+")
    position, number = 0, 1
    while position < len(text):
        whole = LINE.match(text, position)
        assert whole is not None
        if '"' not in whole[1]:
            yield number, whole[1].split(delimiter)
            position, number = whole.end(), number + 1
            continue
        first, cells = number, list[str]()
        while True:
            inner = quoted.match(text, position) if text.startswith('"', position) else None
            if inner is not None:
                lines = len(LINE_END.findall(inner[1]))
                if delimiter == TAB and lines and TAB in inner[1]:
                    raise BadTable(
                        where, number,
                        f"a quote opens here and closes on line {number + lines} behind a tab, which may be one cell "
                        "or several: double the quotes of a raw text, or save the table as JSON",
                    )  # fmt: skip
                cells.append(inner[1].replace('""', '"'))
                number, position = number + lines, inner.end()
            else:
                if delimiter != TAB and text.startswith('"', position):
                    raise BadTable(
                        where, number,
                        "the quote that opens a cell here is not closed at its end: close it, and double every quote "
                        "within a text",
                    )  # fmt: skip
                plain = raw.match(text, position)
                assert plain is not None
                cells.append(plain[0])
                position = plain.end()
            if not text.startswith(delimiter, position):
                break
            position += 1
        yield first, cells
        ended = LINE_END.match(text, position)
        position, number = (ended.end() if ended else len(text)), number + 1
