"""Prompts for `fluxlight generate`: from the command line, a text, JSON, CSV or TSV file, a prompt store, or stdin."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fluxlight.prompts import Prompt, as_prompts, read_prompts

LONGEST_NAME = 60
"""Letters of a name made from a prompt (our choice: a terminal's width with its folder)."""


def from_texts(texts: Sequence[str]) -> list[Prompt]:
    """Prompts named by their own words; a name met before gets -2, -3 and so on."""
    prompts, seen = [], set[str]()
    for text in texts:
        stem = re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:LONGEST_NAME].rstrip("-") or "empty"
        name, number = stem, 1
        while name in seen:
            number += 1
            name = f"{stem}-{number}"
        seen.add(name)
        prompts.append(Prompt(name, text))
    return prompts


def from_file(path: str) -> list[Prompt]:
    """Prompts of a file.

    Args:
        path: ``.json`` (list of texts or of {id, prompt}, or an object id -> prompt), ``.jsonl``, ``.csv`` and
            ``.tsv`` (columns prompt or caption, and id if any; a TSV without names is id, caption), a prompt store,
            else text with one prompt a line; ``-`` is text or JSON on standard input. Empty lines are skipped.
    """
    if path == "-":
        text, where, kind = sys.stdin.read(), "standard input", ""
        kind = ".json" if text.lstrip().startswith(("[", "{")) else ".txt"
    elif Path(path).is_dir():
        return read_prompts(path)
    else:
        where, kind = path, Path(path).suffix.lower()
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise FileNotFoundError(
                f"prompts file {path} does not exist: give a text, JSON, CSV or TSV file, or - for standard input"
            ) from None
        except UnicodeDecodeError:
            raise ValueError(f"prompts file {path} is not UTF-8 text: convert it") from None
    try:
        prompts = _parse(text, kind)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"prompts in {where}: {' '.join(str(error).split())}") from None
    if not prompts:
        raise ValueError(f"prompts in {where}: there is none")
    return prompts


def _parse(text: str, kind: str) -> list[Prompt]:
    if kind == ".json":
        try:
            return _rows(json.loads(text))
        except json.JSONDecodeError as error:
            raise ValueError(f"not valid JSON (line {error.lineno}): correct it") from None
    if kind == ".jsonl":
        return _rows([json.loads(line) for line in text.splitlines() if line.strip()])
    if kind in (".csv", ".tsv"):
        return _table(text, "," if kind == ".csv" else "\t")
    return from_texts([line.strip() for line in text.splitlines() if line.strip()])


def _table(text: str, delimiter: str) -> list[Prompt]:
    lines = [line for line in csv.reader(io.StringIO(text), delimiter=delimiter) if any(line)]
    if not lines:
        return []
    head = [cell.strip().lower() for cell in lines[0]]
    if not {"prompt", "caption"} & set(head):
        # the published captions file: id, caption, no names (FACTS section 8)
        if delimiter == "\t" and all(len(line) == 2 for line in lines):
            return _rows([{"id": name, "prompt": prompt} for name, prompt in lines])
        raise ValueError("the first line must name a column prompt (and id, if there are ids)")
    if any(len(line) != len(head) for line in lines):
        raise ValueError(f"every line needs {len(head)} columns, as the first has: quote prompts that hold a comma")
    return _rows([dict(zip(head, line, strict=True)) for line in lines[1:]])


def _rows(found: Any) -> list[Prompt]:
    if isinstance(found, dict):
        found = [{"id": name, "prompt": prompt} for name, prompt in found.items()]
    if not isinstance(found, list):
        raise ValueError("a list of texts or of {id, prompt} is expected")
    if all(isinstance(row, str) for row in found):
        return from_texts(found)
    rows = []
    for number, row in enumerate(found, 1):
        prompt = row.get("prompt", row.get("caption")) if isinstance(row, dict) else None
        if not isinstance(prompt, str):
            raise ValueError(f"row {number} has no text under prompt")
        rows.append({"id": row.get("id"), "prompt": prompt})
    if all(row["id"] in (None, "") for row in rows):
        return from_texts([row["prompt"] for row in rows])
    if lacking := [str(number) for number, row in enumerate(rows, 1) if row["id"] in (None, "")]:
        raise ValueError(f"rows {', '.join(lacking[:5])} have no id though others have: give all or none")
    return as_prompts(rows)


def seeds_of(prompts: int, seed: int, best_of: int = 1) -> list[list[int]]:
    """Noise seeds of the candidates of each prompt: candidate j of prompt i has ``seed + j * prompts + i``."""
    if best_of < 1:
        raise ValueError(f"best_of is {best_of}: at least 1 is needed")
    if not 0 <= seed < 1 << 62:
        raise ValueError(f"seed is {seed}: use 0 to {(1 << 62) - 1}")
    return [[seed + j * prompts + i for j in range(best_of)] for i in range(prompts)]
