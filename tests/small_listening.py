"""A listening session in miniature: two systems whose clips differ in length of silence, rate and level."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from fluxlight.files import write_json

PROMPTS = {f"p{k:02d}": text for k, text in enumerate(
    ['calm "piano", slow', "drums", "=folk <b>tune</b>", "Ländler für Geige", "x", *(f"tune {k}" for k in range(7))]
)}  # fmt: skip
RATES = {"before": 22050, "after <i>": 16000}


def make_systems(folder: Path, seconds: float = 0.8) -> tuple[dict[str, str], Path]:
    """Folder of each system, at levels 20 dB apart, and the prompts file."""
    draw = np.random.default_rng(0)
    systems = {}
    for k, (system, rate) in enumerate(RATES.items()):
        systems[system] = str(folder / f"system{k}")
        Path(systems[system]).mkdir(parents=True)
        for id in PROMPTS:
            tone = np.sin(np.arange(round(seconds * rate)) * draw.uniform(0.05, 0.2))
            soundfile.write(Path(systems[system]) / f"{id}.wav", (0.05 if k else 0.5) * tone, rate)
    prompts = folder / "prompts.json"
    write_json(prompts, [{"id": id, "prompt": text} for id, text in PROMPTS.items()])
    return systems, prompts


def listen_words(folder: Path, **options: Any) -> list[str]:
    """Words of `fluxlight listen` for these systems into ``folder / "listening"``."""
    systems, prompts = make_systems(folder)
    named = [f"{name}={path}" for name, path in systems.items()]
    more = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return ["listen", *named, "--prompts", str(prompts), "--out", str(folder / "listening"), *more]


def vote_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_votes(path: Path, session: dict[str, Any], listener: str, order: int, winner: Any) -> Path:
    """The table that the page would save if ``winner(row, k)`` had answered."""
    from fluxlight.listening.page import COLUMNS

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS)
        rows.writeheader()
        for k, row in enumerate(session["orders"][order]):
            more = {"prompt": session["prompts"][row["id"]], "listener": listener, "session": session["session"]}
            rows.writerow({**row, **more, "trial": k + 1, "winner": winner(row, k)})
    return path
