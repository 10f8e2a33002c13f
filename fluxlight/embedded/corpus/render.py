"""From a row to its ten seconds of audio."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fluxlight.embedded.corpus.compose import Piece, compose
from fluxlight.embedded.corpus.faults import fault_in_score, fault_in_sound
from fluxlight.embedded.corpus.spec import SCORE_FAULTS, ClipRow, generator
from fluxlight.embedded.corpus.synth import RATE, SAMPLES, Sampler, reverb

LEVEL = 0.12  # RMS of every delivered clip, about -18 dB full scale: level is no cue
KNEE, CEILING = 0.75, 0.985  # peaks above the knee are bent smoothly below the ceiling


class RejectedRender(ValueError):
    """A render that is not music: not finite, over 4 in amplitude, or silent at its start."""


@lru_cache(maxsize=1)
def _sampler() -> Sampler:
    return Sampler()


def _mix(piece: Piece) -> np.ndarray:
    """All tracks at their level in the mix, in their room, ``(441000,)`` float32."""
    mix = np.zeros(SAMPLES, np.float32)
    for track in piece.tracks:
        audio = _sampler().track(track)
        # level of a track: its RMS where it sounds (one sample in 16 is enough to tell)
        thin = np.abs(audio[::16])
        sounding = thin[thin > 0.03 * (thin.max() if thin.size else 0.0)]
        if sounding.size:
            rms = float(np.sqrt(np.mean(sounding.astype(np.float64) ** 2)))
            mix += audio * np.float32(0.1 * 10.0 ** (track.gain / 20.0) / rms)
    return reverb(mix, piece.room, piece.wet)


def deliver(audio: np.ndarray) -> np.ndarray:
    """Bring a mix to the delivered RMS, peaks bent below full scale, with 5 ms fades that hide the cut."""
    audio = audio - np.float32(audio.mean())
    rms = float(np.sqrt(np.mean(audio.astype(np.float64) ** 2)))
    audio = audio * np.float32(LEVEL / max(rms, 1e-9))
    size = np.abs(audio)
    if float(size.max()) > KNEE:
        over = size > KNEE
        room = CEILING - KNEE
        audio[over] = np.sign(audio[over]) * (KNEE + room * np.tanh((size[over] - KNEE) / room)).astype(np.float32)
    fade = int(0.005 * RATE)
    audio[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return audio.astype(np.float32)


def render_piece(piece: Piece, fault: str | None, level: int, key: tuple[object, ...]) -> np.ndarray:
    """Render a piece with a fault; ``key`` names the generator of the fault's draws.

    Raises:
        RejectedRender: the result is not finite, beyond 4 in amplitude, or starts or goes silent.
    """
    rng = generator(*key, "fault", fault)
    if fault in SCORE_FAULTS:
        piece = fault_in_score(piece, str(fault), level, rng)
    audio = _mix(piece)
    peak = float(np.abs(audio).max())
    if not np.isfinite(peak) or peak > 4.0:
        raise RejectedRender(f"peak {peak}")
    rms = float(np.sqrt(np.mean(audio**2)))
    seconds = np.sqrt(np.mean(audio.reshape(10, RATE) ** 2, axis=1))
    if rms < 1e-4 or (fault is None and seconds.min() < 0.05 * rms):
        raise RejectedRender("silence")
    if fault is not None and fault not in SCORE_FAULTS:
        audio = fault_in_sound(audio, fault, level, rng)
    return deliver(audio)


def render_row(row: ClipRow) -> np.ndarray:
    """The clip of a row, ``(441000,)`` float32 at 44.1 kHz mono."""
    piece = compose(row.seed, row.split, row.index, row.attempt)
    return render_piece(piece, row.fault, row.fault_level, (row.seed, row.split, row.index))


def render_variant(row: ClipRow, fault: str | None, level: int = 1) -> np.ndarray:
    """The same composition with another fault (None: clean), ``(441000,)`` float32."""
    return render_row(row.with_fault(fault, level))
