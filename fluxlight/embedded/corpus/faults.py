"""Graded faults: four in the score, three in the sound. Level 1 is mild, 4 strong; all grades are our choice.

The random draws of a fault do not depend on its level, so the levels of one clip differ in strength alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import signal

from fluxlight.embedded.corpus.compose import SECONDS, Piece, with_tracks
from fluxlight.embedded.corpus.synth import RATE, Note, Track

CENTS = (0.0, 18.0, 35.0, 60.0, 95.0)  # how far tracks are out of tune, each way
LATE = (0.0, 0.022, 0.045, 0.085, 0.15)  # standard deviation of onsets, seconds
CLASH = (0.0, 0.2, 0.45, 0.7, 1.0)  # share of chords that clash
DROP = (0.0, 0.12, 0.3, 0.5, 0.65)  # share of the remaining notes that is lost
CLIP = (0.0, 1.2, 0.7, 0.35, 0.15)  # clipping threshold as a multiple of the RMS
CUTOFF = (0.0, 2800.0, 1500.0, 800.0, 400.0)  # low-pass, Hz
SNR = (0.0, 22.0, 14.0, 7.0, 0.0)  # signal to noise, dB


def fault_in_score(piece: Piece, fault: str, level: int, rng: np.random.Generator) -> Piece:
    """The piece with a fault of the score: detuned, mistimed, wrong_harmony or dropped_tracks."""
    if fault == "detuned":
        tracks = []
        for number, track in enumerate(piece.tracks):
            way = 1.0 if number % 2 == 0 else -1.0
            # three shades of wrong a track: notes of one shade and pitch are rendered once
            wobble = rng.choice([-0.35, 0.0, 0.35], len(track.notes))
            drift = rng.uniform(0.75, 1.0)
            tracks.append(track if track.program < 0 else replace(track, notes=[
                replace(n, cents=float(round(CENTS[level] * (way * drift + w)))) for n, w in
                zip(track.notes, wobble, strict=True)]))
        return with_tracks(piece, tracks)
    if fault == "mistimed":
        tracks = []
        for track in piece.tracks:
            shifts = rng.standard_normal(len(track.notes)) * LATE[level]
            notes = [replace(n, start=max(n.start + s, 0.0)) for n, s in zip(track.notes, shifts, strict=True)]
            tracks.append(replace(track, notes=notes))
        return with_tracks(piece, tracks)
    if fault == "wrong_harmony":
        heard = [span for span in piece.chords if span[0] < SECONDS - 0.5]
        rank = rng.permutation(len(heard)) / max(len(heard), 1)
        shift = rng.choice([1, -1, 6], len(heard))

        def moved(note: Note) -> Note:
            for (start, end), place, by in zip(heard, rank, shift, strict=True):
                if start - 0.05 <= note.start < end - 0.05:
                    return replace(note, pitch=note.pitch + int(by)) if place < CLASH[level] else note
            return note

        return with_tracks(piece, [
            replace(t, notes=[moved(n) for n in t.notes]) if t.role in ("chords", "pad", "bass") else t
            for t in piece.tracks])
    return _dropped(piece, level, rng)


def _dropped(piece: Piece, level: int, rng: np.random.Generator) -> Piece:
    """Whole tracks and, of those that stay, single notes go missing; at level 4 the melody is among the lost."""
    order = sorted(range(1, len(piece.tracks)), key=lambda i: (piece.tracks[i].role != "chords", rng.random()))
    lost = {1: order[:0], 2: order[:1], 3: order[: max(1, len(order) - 1)], 4: [*order[1:], 0]}[level]
    tracks: list[Track] = []
    for number, track in enumerate(piece.tracks):
        draw = rng.random(len(track.notes))
        if number in lost:
            continue
        kept = [n for n, d in zip(track.notes, draw, strict=True) if d >= DROP[level] or n.start == 0.0]
        tracks.append(replace(track, notes=kept))
    # silence is a fault too, but a clip with nothing left to hear would be no clip
    return with_tracks(piece, tracks) if any(t.notes for t in tracks) else with_tracks(piece, list(piece.tracks[:1]))


def fault_in_sound(audio: np.ndarray, fault: str, level: int, rng: np.random.Generator) -> np.ndarray:
    """The audio ``(N,)`` with a fault of the sound: clipped, muffled or noisy."""
    rms = float(np.sqrt(np.mean(audio**2))) or 1.0
    if fault == "clipped":
        return np.clip(audio, -CLIP[level] * rms, CLIP[level] * rms)
    if fault == "muffled":
        b, a = signal.butter(4, CUTOFF[level], fs=RATE, output="ba")
        return signal.lfilter(b, a, audio.astype(np.float64)).astype(np.float32)
    noise = rng.standard_normal(int(SECONDS * RATE), dtype=np.float32)
    colour = rng.random()
    if colour < 0.5:  # half the noises are dull (like tape rumble), half are hiss
        noise = signal.lfilter([0.05], [1.0, -0.95], noise).astype(np.float32)
    noise *= rms * 10.0 ** (-SNR[level] / 20.0) / float(np.sqrt(np.mean(noise**2)))
    return audio + noise
