"""Report card of the judges: read from the shipped files or the cache folder, and shown below every table of theirs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fluxlight.files import cache_folder, read_json
from fluxlight.report.table import grid, label

CARDS = Path(__file__).parent / "cards"
"""Shipped cards, one a world: made by ``fluxlight report-card``."""
FIRST = {
    "white_noise": "white noise, dB SNR", "clipping": "clipping, x RMS", "low_pass": "low-pass, Hz",
    "gain": "gain, dB", "time_shuffle": "time shuffle, s pieces", "wrong_captions": "own caption against another's",
}  # fmt: skip


def read_cards() -> Iterator[dict[str, Any]]:
    """Every card, those of the user (``<cache>/cards``) before the shipped ones."""
    own = Path(os.environ["FLUXLIGHT_CARDS"]) if "FLUXLIGHT_CARDS" in os.environ else cache_folder() / "cards"
    for folder in (own, CARDS):
        for path in sorted(folder.glob("*.json")):
            yield read_json(path)


def card_for(identities: Mapping[str, str]) -> dict[str, Any] | None:
    """The card that knows most of the judges ``name -> identity`` of a table, under the table's names; None of none."""
    best: dict[str, Any] | None = None
    for card in read_cards():
        known = {judge["identity"]: judge for judge in card["judges"].values()}
        names = {old: name for name, i in identities.items() for old, j in card["judges"].items() if j["identity"] == i}
        judges = {name: known[identity] for name, identity in identities.items() if identity in known}
        if judges and (best is None or len(judges) > len(best["judges"])):
            agreement = [{**a, "judges": [names[j] for j in a["judges"]]} for a in card["agreement"]
                         if set(a["judges"]) <= set(names)]  # fmt: skip
            best = {**card, "judges": judges, "agreement": agreement}
    return best


def hears(steps: list[Mapping[str, Any]]) -> str:
    """"yes", "no" or "reversed" for a kind of damage, by whether the interval of the accuracy leaves out one half."""
    strongest = steps[-1]
    return "yes" if strongest["low"] > 0.5 else "reversed" if strongest["high"] < 0.5 else "no"


def card_lines(card: Mapping[str, Any] | None, judges: Mapping[str, str]) -> list[str]:
    """The card as Markdown, with a heading; without one, how to make it."""
    head = ["## What the judges are worth", ""]
    if card is None:
        return [*head, NO_CARD, ""]
    return [*head, grid(*card_table(card)), "", *(f"- {note}" for note in card_notes(card, judges)), ""]


NO_CARD = "No report card of these judges is there: `fluxlight report-card --judges WORLD` makes one."


def card_table(card: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a judge a row, its accuracy on every kind of planted pair, and what it does not hear."""
    known = card["judges"]
    first = next(iter(known.values()))["planted"]
    rows = [[label(name), *(_accuracy(judge["planted"][k]) for k in first), _unheard(judge)]
            for name, judge in known.items()]  # fmt: skip
    return ["judge", *(_title(ladder, steps) for ladder, steps in first.items()), "does not hear"], rows


def card_notes(card: Mapping[str, Any], judges: Mapping[str, str]) -> list[str]:
    """What belongs beside the table, a sentence or two each."""
    known = card["judges"]
    lines = [
        "Accuracy on planted pairs, mildest to strongest step: how often the clean clip (or its own caption) scores "
        f"higher, n = {card['n']} clips, {card['loudness']} loudness ({card['material']}; {card['date']}). Does not "
        "hear: the interval of the strongest step holds one half. A judge that passes hears this damage, not music.",
        f"Judges hear the centre {card['hears_seconds']:g} s of a clip; nothing beyond was judged.",
    ]
    for pair in card["agreement"]:
        damaged = f", {pair['damaged']:+.2f} over damaged ones" if "damaged" in pair else ""
        one, other = (label(name) for name in pair["judges"])
        within = f"Spearman {pair['within']:+.2f}{damaged}"
        lines.append(f"Rank agreement of {one} and {other} inside one system: {within}.")
    for kind, found in card.get("false_alarms", {}).items():
        share = found["family"]
        lines.append(
            f"False alarms of a table ({KINDS[kind]}, n = {found['n']}): {100 * share['share']:.1f} % "
            f"[{100 * share['low']:.1f}, {100 * share['high']:.1f}] of {share['trials']} trials."
        )
    lines += [line for name, judge in known.items() for line in _before(label(name), judge["measured_before"])]
    if absent := [label(name) for name in judges if name not in known]:
        lines.append(f"Not on this card: {', '.join(absent)}.")
    return lines


KINDS = {"noise": "same model, other noise", "halves": "same data, other halves"}


def _title(ladder: str, steps: list[Mapping[str, Any]]) -> str:
    ends = f" {steps[0]['step']:g} to {steps[-1]['step']:g}" if len(steps) > 1 else ""
    return f"{FIRST.get(ladder, ladder)}{ends}"


def _accuracy(steps: list[Mapping[str, Any]]) -> str:
    return " to ".join(f"{step['accuracy']:.2f}" for step in ([steps[0], steps[-1]] if len(steps) > 1 else steps))


def _unheard(judge: Mapping[str, Any]) -> str:
    said = {ladder: hears(steps) for ladder, steps in judge["planted"].items()}
    names = {ladder: FIRST.get(ladder, ladder).split(",")[0] for ladder in said}
    lost = [names[ladder] for ladder, answer in said.items() if answer == "no"]
    lost += [f"{names[ladder]} (prefers it)" for ladder, answer in said.items() if answer == "reversed"]
    return ", ".join(lost)


def _before(name: str, facts: Mapping[str, Any]) -> list[str]:
    """What was measured when an embedded judge was made."""
    lines = []
    if faults := facts.get("faults"):
        parts = [f"{kind.replace('_', ' ')} {f['level'][0]:.2f} ({f['never_met'][0]:.2f})"
                 for kind, f in faults.items()]  # fmt: skip
        lines.append(
            f"{name}, mild against strong fault of one piece (in brackets: a kind it never met): {', '.join(parts)}; "
            f"own caption against one of the same genre {facts['caption_same_genre'][0]:.2f}."
        )
    if words := facts.get("words"):
        parts = [f"{word.replace('_', ' ')} {f['accuracy']:.2f} ({f['guessing']:.2f})" for word, f in words.items()]
        lines.append(f"{name}, right word of a prompt (in brackets: always the commonest): {', '.join(parts)}.")
    return lines
