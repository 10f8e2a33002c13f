"""Chords for a melody: the best path (Viterbi) through the diatonic triads of the key. Weights are ours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fluxlight.embedded.corpus.genres import MODES

# How welcome a chord on each scale degree is by itself.
_PRIOR = np.array([0.5, 0.05, -0.3, 0.3, 0.4, 0.1, -0.1])
# How welcome a root motion by so many degrees upwards is: a fourth up (a fifth down) leads best.
_MOTION = np.array([-0.2, 0.15, -0.1, 0.4, 0.25, 0.15, 0.05])


@dataclass(frozen=True)
class Chord:
    """A chord from ``start`` for ``length`` quarters: root degree and semitones of its tones above the tonic."""

    start: float
    length: float
    degree: int
    tones: tuple[int, ...]


def triad(mode: str, degree: int, sevenths: bool = False) -> tuple[int, ...]:
    """Semitones above the tonic of the diatonic chord on ``degree``, root first; minor keys get a major V."""
    scale = MODES[mode]
    tones = [scale[(degree + step) % 7] + 12 * ((degree + step) // 7)
             for step in ((0, 2, 4, 6) if sevenths else (0, 2, 4))]
    if mode == "minor" and degree == 4:
        tones[1] = 11
    return tuple(tones)


def harmonise(melody: list[tuple[float, float, int]], mode: str, span: float, total: float,
              sevenths: bool) -> list[Chord]:
    """Chords of ``span`` quarters under ``melody`` (onset, length, degree) up to ``total`` quarters.

    A chord gains by every melody note that is one of its tones, more on its first beat, loses by the others, and the
    path as a whole by its root motions.
    """
    states = [d for d in range(7) if (triad(mode, d)[2] - triad(mode, d)[0]) % 12 != 6]
    members = [{t % 7 for t in (d, d + 2, d + 4)} for d in states]
    steps = int(np.ceil(total / span))
    fit = np.zeros((steps, len(states)))
    for onset, length, degree in melody:
        first, last = int(onset // span), int(min((onset + length - 1e-6) // span, steps - 1))
        for step in range(first, last + 1):
            overlap = min(onset + length, (step + 1) * span) - max(onset, step * span)
            weight = overlap / span * (1.6 if abs(onset - step * span) < 0.05 else 1.0)
            for s, inside in enumerate(members):
                fit[step, s] += weight * (1.0 if degree % 7 in inside else -0.9)
    prior = _PRIOR[states]
    motion = np.array([[_MOTION[(b - a) % 7] + (0.25 if a == 4 and b == 0 else 0.0) for b in states] for a in states])
    score = fit[0] + prior + np.array([1.2 if s == 0 else 0.0 for s in states])
    back = np.zeros((steps, len(states)), int)
    for step in range(1, steps):
        reach = score[:, None] + 0.6 * motion
        back[step] = reach.argmax(0)
        score = reach.max(0) + fit[step] + 0.6 * prior
    path = [int(score.argmax())]
    for step in range(steps - 1, 0, -1):
        path.append(int(back[step, path[-1]]))
    chords: list[Chord] = []
    for step, s in enumerate(reversed(path)):
        if chords and chords[-1].degree == states[s] and step % 2:
            old = chords.pop()
            chords.append(Chord(old.start, old.length + span, old.degree, old.tones))
        else:
            chords.append(Chord(step * span, span, states[s], triad(mode, states[s], sevenths)))
    return chords
