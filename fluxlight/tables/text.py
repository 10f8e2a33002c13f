"""Bytes to text: UTF-8 with or without a byte order mark, and a line number for anything else."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from fluxlight.tables.rows import BadTable

LINE_END = re.compile(r"\r\n|\r|\n")
"""What ends a line. U+2028, U+0085 and form feeds are letters of a text, whatever `str.splitlines` says."""

STDIN = "-"


def read_text(path: str | os.PathLike[str], what: str) -> tuple[str, str]:
    """Text of a file, and how messages name it.

    Args:
        path: the file, or ``-`` for standard input.
        what: noun for messages, for instance "prompts file".
    """
    if os.fspath(path) == STDIN:
        raw = getattr(sys.stdin, "buffer", None)
        return "standard input", decode(raw.read() if raw else sys.stdin.read().encode(), "standard input")
    where = f"{what} {path}"
    if Path(path).is_dir():
        raise BadTable(where, None, "is a folder: give a TSV, CSV, JSON, JSONL or text file")
    try:
        return where, decode(Path(path).read_bytes(), where)
    except FileNotFoundError:
        raise FileNotFoundError(f"{where} does not exist: give a TSV, CSV, JSON, JSONL or text file") from None
    except OSError as error:
        raise BadTable(where, None, f"cannot be read ({error.strerror}): make it readable") from None


def decode(raw: bytes, where: str) -> str:
    """UTF-8 to text, without the byte order mark."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadTable(where, 1, "is UTF-16 (or UTF-32), not UTF-8: save the file as UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # the position counts from behind the mark that utf-8-sig takes away
        start = error.start + (3 if raw.startswith(b"\xef\xbb\xbf") else 0)
        raise BadTable(
            where, _line(raw, start), f"byte 0x{raw[start]:02x} is not UTF-8 (Latin-1?): save the file as UTF-8"
        ) from None
    if "\0" in text:
        line = len(LINE_END.findall(text, 0, text.index("\0"))) + 1
        raise BadTable(where, line, "holds a zero byte, so it is UTF-16 or no text: save the file as UTF-8")
    return text


def _line(raw: bytes, position: int) -> int:
    return len(re.findall(rb"\r\n|\r|\n", raw[:position])) + 1
