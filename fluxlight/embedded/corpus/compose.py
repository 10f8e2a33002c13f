"""From a tune, a genre and a mood to a piece: key, tempo, harmony, melody and accompaniment. Pure in its key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fluxlight.embedded.corpus.genres import (
    CENTRES,
    DRUM_NAME,
    GENRES,
    INSTRUMENTS,
    MODES,
    MOODS,
    TONICS,
    Genre,
    tempo_word,
)
from fluxlight.embedded.corpus.harmony import Chord, harmonise
from fluxlight.embedded.corpus.patterns import ARPEGGIOS, BASS, CHORDS, DRUMS, POWER
from fluxlight.embedded.corpus.spec import generator
from fluxlight.embedded.corpus.synth import Note, Track
from fluxlight.embedded.corpus.tunes import Tune, pool

SECONDS = 10.0
BAR = {"4": 4.0, "3": 3.0, "6": 3.0}  # quarters
METER_NAMES = {"4": "4/4", "3": "3/4", "6": "6/8"}


@dataclass(frozen=True)
class Piece:
    """A composed clip: ``tracks`` (the lead first), the chords in seconds, the room, and the truth about it."""

    tracks: tuple[Track, ...]
    chords: tuple[tuple[float, float], ...]
    room: str
    wet: float
    tune: str
    tags: dict[str, Any]


def _excerpt(tune: Tune, grid: float, total: float, rng: np.random.Generator) -> list[tuple[float, float, int]]:
    """The melody over ``total`` quarters: from a bar that starts with a note, round and round, thinned to ``grid``."""
    bar = BAR[tune.meter]
    starts = [i for i in range(len(tune.bars)) if tune.bars[i][0][0] == 0.0 and i % 4 == 0] or [0]
    first = starts[int(rng.integers(len(starts)))]
    notes: list[tuple[float, float, int]] = []
    for number in range(int(np.ceil(total / bar))):
        for onset, length, degree in tune.bars[(first + number) % len(tune.bars)]:
            notes.append((number * bar + onset, length, degree))
    notes[0] = (0.0, notes[0][1] + notes[0][0], notes[0][2])
    step = 1.5 if grid >= 0.5 and tune.meter == "6" else grid
    if grid > 0.25:
        on = [n for n in notes if abs(n[0] / step - round(n[0] / step)) < 0.02]
        notes = [(a, min(b - a, 2 * bar), g)
                 for (a, _, g), b in zip(on, [n[0] for n in on[1:]] + [total], strict=True)]
    return [n for n in notes if n[0] < total]


def _cells(pattern: str) -> list[tuple[int, int, str]]:
    """``(step, steps held, character)`` of every strike of a grid."""
    cells: list[tuple[int, int, str]] = []
    for step, char in enumerate(pattern):
        if char == "-" and cells:
            cells[-1] = (cells[-1][0], step - cells[-1][0] + 1, cells[-1][2])
        elif char not in ".-":
            cells.append((step, 1, char))
    return cells


def _near(pitch_class: int, centre: float) -> int:
    return int(pitch_class + 12 * round((centre - pitch_class) / 12.0))


def _chord_at(chords: list[Chord], quarter: float) -> Chord:
    for chord in reversed(chords):
        if chord.start <= quarter + 1e-6:
            return chord
    return chords[0]


def _strikes(pattern: str, meter: str, total: float, chords: list[Chord]) -> list[tuple[float, float, str, Chord]]:
    """``(onset, length, character, chord)`` in quarters; a held strike is renewed where the chord changes."""
    out = []
    for number in range(int(np.ceil(total / BAR[meter]))):
        for step, held, char in _cells(pattern):
            onset = number * BAR[meter] + step * 0.25
            end = onset + held * 0.25
            while onset < min(end, total) - 1e-6:
                chord = _chord_at(chords, onset)
                stop = min(end, chord.start + chord.length) if held > 2 else end
                out.append((onset, max(stop, onset + 0.25) - onset, char, chord))
                onset = max(stop, onset + 0.25)
    return out


def _accompany(genre: Genre, program: int, style: str, meter: str, total: float, chords: list[Chord], tonic: int,
               loud: int) -> list[tuple[float, float, int, int]]:
    """Chord instrument as ``(onset, length, pitch, velocity)`` in quarters."""
    order, notes = ARPEGGIOS.get(style), []
    centre = 50 if style in POWER else 60
    for number, (onset, length, _, chord) in enumerate(_strikes(CHORDS[style][meter], meter, total, chords)):
        tones = [(tonic + t) % 12 for t in chord.tones]
        if style in POWER:
            root = _near(tones[0], 44)
            # shuffle: the fifth opens to the sixth on every other beat
            fifth = 9 if style == "shuffle" and number % 4 >= 2 else 7
            pitches = [root, root + fifth] + ([root + 12] if style != "shuffle" else [])
        else:
            pitches = sorted(_near(t, centre) for t in tones)
        if order is not None:
            place = order[number % len(order)]
            pitches = [pitches[place % len(pitches)] + 12 * (place // len(pitches))]
            if style == "lull":
                pitches = [p + 12 for p in pitches]
            length = max(length, 0.5)
        accent = 6 if abs(onset % 1.0) < 0.01 else -4
        spread = 0.03 if style == "strum" else 0.0
        for i, pitch in enumerate(pitches):
            notes.append((onset + i * spread, length - i * spread, pitch, loud - 6 + accent))
    return notes


def _bass(style: str, meter: str, total: float, chords: list[Chord], tonic: int, mode: str,
          loud: int) -> list[tuple[float, float, int, int]]:
    notes = []
    for onset, length, char, chord in _strikes(BASS[style][meter], meter, total, chords):
        root = 28 + (tonic + chord.tones[0] - 28) % 12
        if char == "a":
            following = _chord_at(chords, onset + length)
            goal = 28 + (tonic + following.tones[0] - 28) % 12
            scale = {(tonic + s) % 12 for s in MODES[mode]}
            pitch = goal - 2 if (goal - 2) % 12 in scale else goal - 1
        else:
            pitch = root + {"1": 0, "3": chord.tones[1] - chord.tones[0], "5": chord.tones[2] - chord.tones[0],
                            "8": 12}[char]
        notes.append((onset, length * 0.95, pitch, loud + (6 if char == "1" else 0)))
    return notes


def _drums(name: str, meter: str, total: float, loud: int) -> list[tuple[float, float, int, int]]:
    hit = {"X": loud + 6, "x": loud - 8, "o": loud - 30}
    kit = DRUMS[name].get(meter, {})
    return [(bar * BAR[meter] + step * 0.25, 0.25, drum, hit[char]) for bar in range(int(np.ceil(total / BAR[meter])))
            for drum, pattern in kit.items() for step, char in enumerate(pattern) if char != "."]


def _lead(melody: list[tuple[float, float, int]], chords: list[Chord], tonic: int, mode: str, program: int,
          register: int, loud: int) -> list[tuple[float, float, int, int]]:
    scale = MODES[mode]
    pitches = []
    for onset, _, degree in melody:
        pitch = tonic + scale[degree % 7] + 12 * (degree // 7)
        if mode == "minor" and degree % 7 == 6 and _chord_at(chords, onset).degree == 4:
            pitch += 1  # the leading note over the major V
        pitches.append(pitch)
    centre = CENTRES.get(program, 72) + register
    shift = 12 * round((centre - float(np.median(pitches))) / 12.0)
    notes = []
    for (onset, length, _), pitch in zip(melody, pitches, strict=True):
        pitch += shift
        while pitch > centre + 15:
            pitch -= 12
        while pitch < centre - 15:
            pitch += 12
        notes.append((onset, length, pitch, loud + (8 if onset % 1.0 == 0.0 else 0)))
    return notes


def _genre(seed: int, split: str, index: int) -> Genre:
    """Genres come in shuffled rounds, so that even a small split holds all of them."""
    turn, place = divmod(index, len(GENRES))
    return GENRES[int(generator(seed, split, "genres", turn).permutation(len(GENRES))[place])]


def compose(seed: int, split: str, index: int, attempt: int = 0) -> Piece:
    """The piece of clip ``index`` of ``split``: 10 s of music that starts at once."""
    rng = generator(seed, split, index, "music", attempt)
    genre = _genre(seed, split, index)
    meter = genre.meters[int(rng.integers(len(genre.meters)))]
    tune = pool(split, meter)[int(rng.integers(len(pool(split, meter))))]
    mood_name = genre.moods[int(rng.integers(len(genre.moods)))]
    mood = MOODS[mood_name]
    mode = mood.modes[int(rng.integers(len(mood.modes)))]
    tonic = int(rng.integers(12))
    place = rng.uniform(*mood.tempo)
    bpm = round(genre.tempo[0] + place * (genre.tempo[1] - genre.tempo[0]))
    quarter = 60.0 / bpm / (1.5 if meter == "6" else 1.0)
    bar = BAR[meter]
    total = float(np.ceil(SECONDS / quarter / bar) * bar)
    melody = _excerpt(tune, genre.grid, total, rng)
    span = bar if genre.whole_bars or meter == "3" else bar / 2
    chords = harmonise(melody, mode, span, total, genre.sevenths)

    def warp(q: float) -> float:
        whole, part = divmod(q, 1.0)
        s = genre.swing
        return whole + (2 * part * s if part < 0.5 else s + (2 * part - 1) * (1 - s))

    def track(role: str, program: int, notes: list[tuple[float, float, int, int]], gain: float, hold: float) -> Track:
        made = []
        for onset, length, pitch, velocity in notes:
            a, b = (warp(onset), warp(onset + length)) if meter != "6" else (onset, onset + length)
            if a * quarter < SECONDS:
                soft = int(np.clip(velocity + rng.integers(-5, 6), 24, 127))
                made.append(Note(a * quarter, max((b - a) * quarter * hold, 0.06), pitch, soft))
        return Track(role, program, made, gain)

    lead = genre.leads[int(rng.integers(len(genre.leads)))]
    others = [p for p in genre.chords if p != lead] or list(genre.chords)
    chord_program = others[int(rng.integers(len(others)))]
    style = genre.chord_styles[int(rng.integers(len(genre.chord_styles)))]
    loud = mood.velocity
    tracks = [track("lead", lead, _lead(melody, chords, tonic, mode, lead, mood.register, loud), 0.0, mood.hold),
              track("chords", chord_program,
                    _accompany(genre, chord_program, style, meter, total, chords, tonic, loud), -5.0, 1.0)]
    if genre.basses:
        program = genre.basses[int(rng.integers(len(genre.basses)))]
        bass_style = genre.bass_styles[int(rng.integers(len(genre.bass_styles)))]
        tracks.append(track("bass", program, _bass(bass_style, meter, total, chords, tonic, mode, loud), -3.0, 0.95))
    if genre.pads and rng.random() < 0.7:
        program = genre.pads[int(rng.integers(len(genre.pads)))]
        tracks.append(track("pad", program, _accompany(genre, program, "pad", meter, total, chords, tonic, loud - 12),
                            -9.0, 1.0))
    if genre.drums is not None and meter in DRUMS[genre.drums]:
        tracks.append(track("drums", -1 - genre.kit, _drums(genre.drums, meter, total, min(loud, 112)), -3.0, 1.0))
    wet = genre.wet * mood.wet
    names = [DRUM_NAME if t.program < 0 else INSTRUMENTS[t.program] for t in tracks]
    tags = {
        "genre": genre.name, "mood": mood_name, "key": TONICS[tonic], "mode": mode, "tempo_bpm": bpm,
        "tempo_word": tempo_word(bpm), "meter": METER_NAMES[meter], "instruments": list(dict.fromkeys(names)),
        "lead": names[0], "chords": names[1], "bass": next((n for t, n in zip(tracks, names, strict=True)
                                                            if t.role == "bass"), None),
        "drums": DRUM_NAME in names, "swing": genre.swing >= 0.6,
        "space": "dry" if wet < 0.14 else "spacious" if wet > 0.45 else "roomy",
    }
    spans = tuple((c.start * quarter, (c.start + c.length) * quarter) for c in chords)
    return Piece(tuple(tracks), spans, genre.room, wet, tune.id, tags)


def with_tracks(piece: Piece, tracks: list[Track]) -> Piece:
    """The piece with other tracks."""
    return replace(piece, tracks=tuple(tracks))
