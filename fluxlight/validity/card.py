"""Report card: what the judges of a world are worth, as one file that tables show and nothing computes twice.

Planted pairs: the same clip clean and damaged (`LADDERS`), or with its own and with another clip's caption. A judge is
right where the clean clip, or the own caption, scores higher; equal scores count half. Rank agreement: Spearman of two
judges of a kind over the clean clips, which are one system, and over all damaged ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from fluxlight.evaluation.judging import Judges
from fluxlight.evaluation.measure import PerClip
from fluxlight.files import hash_of, read_json
from fluxlight.metrics.statistics import share_interval, spearman
from fluxlight.validity.damage import LADDERS
from fluxlight.weights.frozen import shipped

VERSION = 1
"""Layout of the file."""
FIGURES = 1e-4
"""Differences below this share of a judge's spread over clips are rounding (our choice)."""


def card_of(
    rows: Mapping[str, Sequence[PerClip]], judges: Judges, protocol: str, material: str,
    rates: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The card of judges.

    Args:
        rows: ladder -> the clean row, then one a step (`fluxlight.validity.climb.climb`).
        judges: who judged.
        protocol: loudness they heard.
        material: what the clips are, in words.
        rates: error_rates.json of the same judges; its false alarms go along.
    """
    identities = judges.identities()
    first = next(iter(rows.values()))[0]
    known = {
        name: {"identity": identities[name], "kind": "clap" if name in judges.claps else "reward",
               "planted": {ladder: _steps(ladder, found, name) for ladder, found in rows.items()},
               "measured_before": _facts(identities[name])}
        for name in first.scores
    }  # fmt: skip
    if rates is not None and (odd := set(rates["frame"]["judges"].values()) - set(identities.values())):
        raise ValueError(f"--error-rates: {', '.join(sorted(odd))} is no judge of this card: give that of these judges")
    card: dict[str, Any] = {
        "version": VERSION, "kind": "report card", "n": len(first.prompts), "loudness": protocol, "material": material,
        "prompts": hash_of([[p.id, p.prompt] for p in first.prompts]), "judges": known,
        "agreement": _agreement(rows, judges), "hears_seconds": 10.0, "interval": 0.95,
        "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip
    if rates is not None:
        card["false_alarms"] = {
            kind: {"family": found["family"], "n": rates["frame"]["n"]} for kind, found in rates["false_alarms"].items()
        }
    return card


def _steps(ladder: str, rows: Sequence[PerClip], judge: str) -> list[dict[str, Any]]:
    """The judge's accuracy on each step; of captions only where every clip carries another's."""
    clean, found = rows[0].scores[judge], []
    for row, step in zip(rows[1:], LADDERS[ladder].steps, strict=False):
        damaged = row.scores[judge]
        if LADDERS[ladder].apply is None:
            if step < 1:
                continue
        elif np.allclose(damaged, clean, rtol=0, atol=FIGURES * float(clean.std())):
            damaged = clean  # a gain that the loudness protocol takes out again: rounding prefers nothing
        right = float((clean > damaged).sum() + 0.5 * (clean == damaged).sum())
        low, high = share_interval(right, clean.size)
        found.append({"step": step, "accuracy": right / clean.size, "low": low, "high": high, "n": clean.size})
    return found


def _agreement(rows: Mapping[str, Sequence[PerClip]], judges: Judges) -> list[dict[str, Any]]:
    clean = next(iter(rows.values()))[0]
    damaged = [row for ladder, found in rows.items() if LADDERS[ladder].apply is not None for row in found[1:]]
    made = []
    for names in (list(judges.claps), list(judges.rewards)):
        for k, one in enumerate(names):
            for other in names[k + 1 :]:
                pair = {"judges": [one, other], "within": spearman(clean.scores[one], clean.scores[other])}
                if damaged:
                    pooled = [np.concatenate([row.scores[name] for row in damaged]) for name in (one, other)]
                    pair["damaged"] = spearman(*pooled)
                made.append(pair)
    return made


def _facts(identity: str) -> dict[str, Any]:
    """What was measured when an embedded judge was made: faults in the score, words of the prompt."""
    files = [read_json(shipped(name)) for name in ("REWARDS.json", "JUDGES.json")]
    found = {made["identity"]: made for file in files for made in file.values() if _has_identity(made)}
    made = found.get(identity, {})
    said: dict[str, Any] = {}
    if "accuracy" in made:
        said["faults"] = {
            kind: {"mildest": made["accuracy"]["damage"][kind]["mildest"], "level": made["accuracy"]["level"][kind],
                   "never_met": made["never_met"][kind]["level"]}
            for kind in made["accuracy"]["level"]
        }  # fmt: skip
        said["caption_same_genre"] = made["caption_same_genre"]
    if "tags" in made:
        said["words"] = {
            tag: {"accuracy": facts["top1"], "guessing": facts["commonest"], "n": facts["n"]}
            for tag, facts in made["tags"].items()
        }
    return said


def _has_identity(made: Any) -> bool:
    return isinstance(made, dict) and "identity" in made
