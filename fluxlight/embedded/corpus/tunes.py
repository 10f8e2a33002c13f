"""Melodies: public-domain folk tunes of music21's corpus, read in place as scale degrees, bar by bar.

O'Neill's Music of Ireland (1850 tunes), Ryan's Mammoth Collection and Aird's Airs. A light reader of our own for the
part of ABC 2.1 these books use: music21's own conversion takes about a hundred times as long. No tune is shipped.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

BOOKS = ("oneills1850", "ryansMammoth", "airdsAirs")
# Shares of the tune pool, in thousandths (ours): a fixed partition that no setting changes.
SHARES = {"train": 350, "val": 50, "reference": 150, "slice": 50, "judge_a": 180, "judge_b": 180, "judge_val": 40}
SPLITS = tuple(SHARES)
_LETTERS = "CDEFGAB"
_STRIP = re.compile(r'"[^"]*"|![^!]*!|\{[^}]*\}|\+[a-z]+\+|\[[A-Za-z]:[^\]]*\]|[.~uvHTLMOPRS`$]')
_NOTE = re.compile(r"[_=^]*([A-Ga-gzxZ])([,']*)(\d*)(/*)(\d*)")
_TUPLET = re.compile(r"\((\d)(?::(\d?))?(?::(\d?))?")


@dataclass(frozen=True)
class Tune:
    """A melody without key or mode.

    Attributes:
        id: ``book/file#number``.
        meter: "4" (four quarters), "3" (three quarters) or "6" (six eighths).
        bars: per bar, ``(onset, length, degree)`` in quarter notes; degree 0 is the tonic, 7 its octave.
    """

    id: str
    meter: str
    bars: tuple[tuple[tuple[float, float, int], ...], ...]


def _length(digits: str, slashes: str, under: str) -> float:
    top = int(digits) if digits else 1
    return top / (int(under) if under else 2 ** len(slashes))


def _bars(body: str, unit: float, tonic: int) -> list[tuple[float, list[tuple[float, float, int | None]]]]:
    """Split a tune body at bar lines into ``(length, notes)``; a rest has degree None."""
    bars: list[tuple[float, list[tuple[float, float, int | None]]]] = []
    notes: list[tuple[float, float, int | None]] = []
    at, left, factor, broken, tie = 0.0, 0, 1.0, 1.0, False
    i = 0
    while i < len(body):
        tuplet = _TUPLET.match(body, i)
        if tuplet:
            n = int(tuplet[1])
            q = int(tuplet[2]) if tuplet[2] else {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(n, 2)
            left, factor = int(tuplet[3]) if tuplet[3] else n, q / max(n, 1)
            i = tuplet.end()
            continue
        chord = body[i] == "[" and re.match(r"\[[^\]|]*\]", body[i:])
        match = None
        if chord:
            inside = [m for m in _NOTE.finditer(chord[0]) if m[1] not in "zxZ"]
            if inside:  # the tune is the top note
                match = max(inside, key=lambda m: _step(m[1], m[2]))
                tail = re.match(r"(\d*)(/*)(\d*)", body[i + len(chord[0]) :])
                length = _length(match[3], match[4], match[5]) * (_length(*tail.groups()) if tail and tail[0] else 1.0)
                i += len(chord[0]) + (len(tail[0]) if tail else 0)
            else:
                i += len(chord[0])
                continue
        else:
            match = _NOTE.match(body, i)
            if match:
                length = _length(match[3], match[4], match[5])
                i = match.end()
        if match:
            length *= unit * (factor if left else 1.0) * broken
            left, broken = max(left - 1, 0), 1.0
            mark = re.match(r"\s*(>+|<+)", body[i:])
            if mark:
                small = 0.5 ** len(mark[1])
                length, broken = (length * (2 - small), small) if mark[1][0] == ">" else (length * small, 2 - small)
                i += len(mark[0])
            degree = None if match[1] in "zxZ" else _step(match[1], match[2]) - tonic
            if tie and notes and notes[-1][2] == degree:
                notes[-1] = (notes[-1][0], notes[-1][1] + length, degree)
            else:
                notes.append((at, length, degree))
            at += length
            tie = body[i : i + 1] == "-"
            continue
        if body[i] == "|":
            if at > 0:
                bars.append((at, notes))
            notes, at, left, broken = [], 0.0, 0, 1.0
        i += 1
    if at > 0:
        bars.append((at, notes))
    return bars


def _step(letter: str, marks: str) -> int:
    octave = (7 if letter.islower() else 0) + 7 * (marks.count("'") - marks.count(","))
    return _LETTERS.index(letter.upper()) + octave


def _tune(name: str, block: str) -> Tune | None:
    """One ABC tune, or None where its meter, key or bars are not plain enough."""
    fields: dict[str, str] = {}
    lines: list[str] = []
    for line in block.splitlines():
        line = line.split("%")[0].rstrip()
        if re.match(r"[A-Za-z]:", line) and not line.startswith("|:"):
            if line[0] in "KM" and line[0] in fields and lines:
                if line[0] == "M":
                    return None
                continue
            if line[0] == "V":
                return None
            fields.setdefault(line[0], line[2:].strip())
        elif "K" in fields:
            lines.append(line.rstrip("\\"))
    number, meter, key = fields.get("X", "?"), fields.get("M", "C"), fields.get("K", "")
    meter = {"C": "4/4", "C|": "4/4", "2/2": "4/4"}.get(meter, meter)
    if meter not in ("4/4", "2/4", "3/4", "6/8") or not key[:1] or key[0] not in "ABCDEFG":
        return None
    top, under = map(int, meter.split("/"))
    full = top * 4.0 / under
    unit_text = fields.get("L", "")
    unit = (4.0 * int(unit_text.split("/")[0]) / int(unit_text.split("/")[1])
            if re.fullmatch(r"\d/\d+", unit_text) else (0.5 if top / under >= 0.75 else 0.25))
    raw = _bars(_STRIP.sub("", " ".join(lines)), unit, _LETTERS.index(key[0]))
    kept: list[list[tuple[float, float, int]]] = []
    for length, notes in raw:
        if length > full * 1.01:
            return None
        sounding = [(a, d, g) for a, d, g in notes if g is not None]
        if length < full * 0.6 or not sounding:  # an up-beat
            continue
        last = sounding[-1]
        sounding[-1] = (last[0], full - last[0], last[2])
        kept.append(sounding)
    if meter == "2/4":  # two bars in one, as fast as a reel in 4/4: twice the values where sixteenths rule
        lengths = sorted(d for bar in kept for _, d, _ in bar)
        if lengths and lengths[len(lengths) // 2] <= 0.26:
            kept = [[(a * 2, d * 2, g) for a, d, g in bar] for bar in kept]
        else:
            kept = [a + [(x + 2, d, g) for x, d, g in b] for a, b in zip(kept[::2], kept[1::2], strict=False)]
    if len(kept) < 6:
        return None
    bars = tuple(tuple((round(a * 48) / 48, round(d * 48) / 48, g) for a, d, g in bar) for bar in kept)
    if sum(len(bar) for bar in bars) < 2.5 * len(bars):
        return None
    return Tune(f"{name}#{number}", {"4/4": "4", "2/4": "4", "3/4": "3", "6/8": "6"}[meter], bars)


def split_of(tune_id: str) -> str:
    """The split a tune belongs to, by a hash of its id."""
    place = int.from_bytes(hashlib.sha256(tune_id.encode()).digest()[:4], "big") % 1000
    for split, share in SHARES.items():
        place -= share
        if place < 0:
            return split
    raise AssertionError("shares sum to 1000")


@lru_cache(maxsize=1)
def tunes() -> tuple[Tune, ...]:
    """All usable tunes in a fixed order; of tunes that begin alike (first 12 notes) only the first is kept.

    The same tune stands in several books under several names, so this is what makes splits disjoint in music too.
    """
    spec = find_spec("music21")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("music21 is missing, its corpus holds the melodies: pip install -e '.[embedded]'")
    corpus = Path(next(iter(spec.submodule_search_locations))) / "corpus"
    found: list[Tune] = []
    begun: set[tuple[int, ...]] = set()
    for book in BOOKS:
        files = sorted((corpus / book).glob("*.abc"))
        if not files:
            raise FileNotFoundError(f"{corpus / book} holds no ABC file: reinstall music21")
        for file in files:
            text = file.read_text(encoding="utf-8", errors="replace")
            for block in re.split(r"\n(?=X:)", "\n" + text):
                if not block.lstrip().startswith("X:"):
                    continue
                tune = _tune(f"{book}/{file.stem}", block.strip())
                if tune is None:
                    continue
                start = tuple(g % 7 for bar in tune.bars for _, _, g in bar)[:12]
                if start not in begun:
                    begun.add(start)
                    found.append(tune)
    return tuple(found)


@lru_cache(maxsize=64)
def pool(split: str, meter: str) -> tuple[Tune, ...]:
    """The tunes of one split and meter."""
    if split not in SHARES:
        raise ValueError(f"split {split!r} is unknown: choose one of {', '.join(SPLITS)}")
    return tuple(t for t in tunes() if t.meter == meter and split_of(t.id) == split)
