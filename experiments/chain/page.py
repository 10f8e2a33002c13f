"""The page while the chain runs: whatever can be heard so far, from the first clips on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fluxlight.clips.candidates import ROWS, read_candidates
from fluxlight.files import read_json
from fluxlight.prompts import Prompt


def grow(out: Path, rows: Mapping[str, str]) -> Path | None:
    """Write ``index.html`` of every row that has clips so far; None where there is nothing yet.

    Args:
        out: run folder; the page of the finished table takes the same place.
        rows: row name -> folder of clips below ``out``, in the order of the page.
    """
    from fluxlight.report.listening import listening_page

    found = {name: out / folder for name, folder in rows.items() if any((out / folder).glob("*.wav")) or
             (out / folder / ROWS).is_file()}  # fmt: skip
    if not found:
        return None
    title = f"So far: {', '.join(found)}"
    return listening_page(out / "index.html", _prompts(out, list(found.values())), found, {}, title=title, partial=True)


def _prompts(out: Path, folders: list[Path]) -> list[Prompt]:
    """Prompts of the clips, in the order of the slice: noise seeds count along it."""
    texts: dict[str, str] = {}
    if (first := out / "first" / "prompts.json").is_file():
        texts = {row["id"]: row["prompt"] for row in read_json(first)}
    for folder in folders:
        rows = read_candidates(folder, missing_ok=True)
        texts |= {row.id: row.prompt for row in sorted(rows, key=lambda row: row.seed)}
    return [Prompt(id, text) for id, text in texts.items()]
