"""Captions from the truth: templates in three disjoint groups, synonyms, and attributes left out at random.

A bracketed part of a template vanishes whole when one of its attributes is left out; ``a(n)`` becomes the right
article. What the caption leaves out is simply not said; nothing false is ever said, and faults are never mentioned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from fluxlight.embedded.corpus.words import GENRE_WORDS, INSTRUMENT_WORDS, MOOD_WORDS, SPACE_WORDS, TEMPO_WORDS

TEMPLATES_A: tuple[str, ...] = (
    "a(n) [{mood} ]{genre} track[ with {instruments}][, {tempo}][, in {key}]",
    "[{tempo} ]{genre} featuring {instruments}[, {mood} mood]",
    "{instruments} playing a(n) [{mood} ]{genre} tune[ in {key}][ at {bpm} bpm]",
    "this is a(n) [{tempo}, ][{mood} ]{genre} piece[; the melody is played by {lead}][ over {backing}]",
    "[{mood}, ][{tempo}, ]{genre}[, {instruments}][, {key}]",
    "instrumental {genre} led by {lead}[, {mood}][, {tempo}][, {meter} time]",
    "a(n) [{mood} ]melody on {lead}[ backed by {backing}], {genre} style[, {tempo}]",
    "{genre} music[ at a(n) {tempo} pace][ that feels {mood}][. {instruments}]",
    "music in the style of {genre}: {instruments}[, {mood}][, {bpm} beats per minute]",
    "[{mood} ]{genre} in {meter}[, {tempo} tempo][, lead {lead}][, {space} sound]",
)
TEMPLATES_B: tuple[str, ...] = (
    "{genre}. [{mood}. ][{tempo}. ][{instruments}.]",
    "the {lead} carries a(n) [{mood} ]{genre} melody[ accompanied by {backing}][ in {key}]",
    "a recording of [{mood} ]{genre}[ performed with {instruments}][ and a(n) {tempo} beat]",
    "[{instruments} in ]a(n) [{mood}, ][{tempo} ]{genre} arrangement[ with a(n) {space} sound]",
    "imagine a(n) [{mood} ]{genre} scene[: {lead} up front][, {backing} behind][, {tempo}]",
    "{lead} solo over {backing}[, {genre}][, {mood} atmosphere][, {key}]",
    "a(n) {bpm} bpm {genre} groove[ with {instruments}][, {mood}]",
    "background music, {genre}[, {mood} feeling][, {tempo} speed][, {instruments}]",
    "you hear {instruments} in this [{tempo} ][{mood} ]{genre} song[ written in {key}]",
    "[{tempo} and ]{mood} {genre}[, played by {instruments}][, {meter} meter]",
)
TEMPLATES_HELD_OUT: tuple[str, ...] = (
    "please play some [{mood} ]{genre}[ with {instruments}]",
    "song idea: {genre}[, something {mood}][, {tempo}][, use {instruments}]",
    "I would like a(n) [{tempo} ]{genre} piece[ that sounds {mood}][ on {lead}]",
    "someone is playing {lead}[ together with {backing}] in a(n) [{mood} ]{genre} band",
    "short clip: [{mood} / ][{tempo} / ]{genre}[ / {instruments}]",
    "the mood is {mood} and the style is {genre}[; we hear {instruments}][; {tempo}]",
)
TEMPLATES_ALL = TEMPLATES_A + TEMPLATES_B + TEMPLATES_HELD_OUT
# Probability that an attribute is left out where the template allows it.
LEFT_OUT = {"mood": 0.25, "tempo": 0.35, "key": 0.5, "instruments": 0.2, "lead": 0.15, "backing": 0.35, "bpm": 0.4,
            "meter": 0.4, "space": 0.5, "genre": 0.1}


def templates_of(split: str) -> tuple[str, ...]:
    """The templates that captions of a split are written with: the two judges never share one."""
    if split == "judge_a":
        return TEMPLATES_A
    if split == "judge_b":
        return TEMPLATES_B
    return TEMPLATES_A + TEMPLATES_B


def _pick(words: Sequence[str], rng: np.random.Generator) -> str:
    # the plain word comes first and is the most common
    return words[0] if rng.random() < 0.4 else words[int(rng.integers(len(words)))]


def join(names: Sequence[str]) -> str:
    """"a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def write_caption(tags: dict[str, Any], rng: np.random.Generator,
                  templates: Sequence[str] = TEMPLATES_A + TEMPLATES_B) -> tuple[str, int]:
    """A caption for ``tags`` and the number of its template in ``TEMPLATES_ALL``."""
    template = templates[int(rng.integers(len(templates)))]
    instruments = [_pick(INSTRUMENT_WORDS.get(n, (n,)), rng) for n in tags["instruments"]]
    shown = instruments
    if len(instruments) > 2 and rng.random() < 0.4:  # not everything is named; the lead is
        keep = sorted(rng.permutation(len(instruments) - 1)[: int(rng.integers(1, len(instruments) - 1))] + 1)
        shown = [instruments[0]] + [instruments[i] for i in keep]
    if rng.random() < 0.3:
        shown = [shown[i] for i in rng.permutation(len(shown))]
    shown = list(dict.fromkeys(shown))
    values = {
        "genre": _pick(GENRE_WORDS[tags["genre"]], rng), "mood": _pick(MOOD_WORDS[tags["mood"]], rng),
        "tempo": _pick(TEMPO_WORDS[tags["tempo_word"]], rng), "key": f"{tags['key']} {tags['mode']}",
        "bpm": str(tags["tempo_bpm"]), "meter": tags["meter"], "space": _pick(SPACE_WORDS[tags["space"]], rng),
        "instruments": join(shown), "lead": instruments[0],
        "backing": join(list(dict.fromkeys(instruments[1:])) or instruments),
    }
    out = {name for name, chance in LEFT_OUT.items() if rng.random() < chance}
    if len(instruments) == 1:
        out.add("backing")
    if "genre" in out:  # the genre is not told: mood and instruments must tell clips apart
        out -= {"mood", "instruments", "lead"}
        if "style" not in template and "instrumental" not in template:
            values["genre"] = "instrumental"
    elif {"mood", "instruments", "lead"} <= out:
        out.discard("mood")

    def part(match: re.Match[str]) -> str:
        return "" if any(name in out for name in re.findall(r"\{(\w+)\}", match[1])) else match[1]

    text = re.sub(r"\[([^\]]*)\]", part, template).format(**values)
    text = re.sub(r"\ba\(n\) (\w)", lambda m: ("an " if m[1].lower() in "aeiou8" else "a ") + m[1], text)
    text = re.sub(r"\s+", " ", text).strip(" ,;:")
    style = rng.random()
    if style < 0.45:
        text = text[0].upper() + text[1:]
    if style < 0.3 and not text.endswith("."):
        text += "."
    return text, TEMPLATES_ALL.index(template)
