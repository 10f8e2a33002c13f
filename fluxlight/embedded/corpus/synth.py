"""Sampler: notes -> mono audio at 44.1 kHz, with exact onsets, exact tuning, and a convolution room."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy import fft, signal

from fluxlight.embedded.corpus.soundfont import Zone, soundfont

RATE = 44_100
SAMPLES = 441_000
DRUM_BANK = 128
# Room impulse responses: decay to -60 dB in seconds (ours). Longest IR + clip fits one FFT of 500,000 = 2^5 5^6.
ROOMS = {"dry": 0.25, "room": 0.55, "hall": 1.15, "cathedral": 1.9}
_FFT = 500_000
_IR = _FFT - SAMPLES
_CACHE_BYTES = 160 << 20  # per process


@dataclass
class Note:
    """A note: ``start`` and ``length`` in seconds, ``pitch`` MIDI, ``velocity`` 1-127, ``cents`` off pitch."""

    start: float
    length: float
    pitch: int
    velocity: int
    cents: float = 0.0


@dataclass
class Track:
    """Notes of one instrument. ``program`` is General MIDI 0-127, or -1 - kit for drums; ``gain`` is dB in the mix."""

    role: str
    program: int
    notes: list[Note] = field(default_factory=list)
    gain: float = 0.0


def _play(zone: Zone, key: int, cents: float, seconds: float) -> np.ndarray:
    """A zone held for ``seconds`` without its release, float32."""
    data = soundfont().data
    step = zone.rate / RATE * 2.0 ** (((key - zone.root) * zone.scale + zone.tune + cents / 100.0) / 12.0)
    count = int(seconds * RATE)
    length = zone.end - zone.start
    if zone.loop is None:
        count = min(count, int((length - 2) / step))
    position = np.arange(max(count, 1)) * step
    if zone.loop is not None and position[-1] >= zone.loop[1]:
        first, last = zone.loop
        over = position[int(last / step) :]
        over[:] = np.where(over >= last, first + np.mod(over - first, last - first), over)
    whole = position.astype(np.int32)
    part = (position - whole).astype(np.float32)
    after = whole + 1
    if zone.loop is not None:
        after[after >= zone.loop[1]] = zone.loop[0]
    near = data[zone.start : zone.start + length + 2]
    wave = near.take(whole, mode="clip")
    wave += part * (near.take(after, mode="clip") - wave)
    t = np.arange(len(wave), dtype=np.float32) * np.float32(1.0 / RATE)
    level: np.ndarray | np.float32 = np.float32(1.0)
    if zone.decay > 0.0 and zone.sustain < 1.0:
        # section 8.1.2 (36): the decay time is that of a fall by 100 dB, linear in dB
        fall = np.maximum(t - np.float32(zone.attack + zone.hold), 0.0)
        level = np.maximum(np.exp(fall * np.float32(-5.0 * np.log(10.0) / max(zone.decay, 0.01))),
                           np.float32(zone.sustain))
    if zone.attack > 0.003:
        level = level * np.minimum(t * np.float32(1.0 / zone.attack), np.float32(1.0))
    wave = wave * (level * np.float32(zone.gain))
    if zone.cutoff < 12_000.0:
        b, a = signal.butter(1, min(zone.cutoff, 18_000.0), fs=RATE)
        wave = signal.lfilter(b, a, wave).astype(np.float32)
    return np.asarray(wave, np.float32)


class Sampler:
    """Plays tracks. Held notes are kept (bounded, least recently used first out); the result never depends on it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int, int, float], tuple[np.ndarray, float]] = OrderedDict()
        self._bytes = 0

    def _held(self, bank: int, program: int, note: Note) -> tuple[np.ndarray, float]:
        """The note held long enough (rounded up, so notes of one pitch share it) and its release time."""
        seconds = 2.0 if bank == DRUM_BANK else float(2 ** (np.ceil(2 * np.log2(max(note.length + 0.35, 0.5))) / 2))
        layer = 60 if note.velocity < 80 else 100
        key = (bank * 128 + program, note.pitch, layer * 1000 + int(seconds * 16), note.cents)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        zones = soundfont().zones(bank, program, note.pitch, layer)
        parts = [_play(zone, note.pitch, note.cents, seconds) for zone in zones]
        if not parts:
            return np.zeros(1, np.float32), 0.01
        wave = np.zeros(max(map(len, parts)), np.float32)
        for part in parts:
            wave[: len(part)] += part
        release = min(max(max(zone.release for zone in zones), 0.03), 0.3)
        self._kept[key] = (wave, release)
        self._bytes += wave.nbytes
        while self._bytes > _CACHE_BYTES:
            _, (old, _) = self._kept.popitem(last=False)
            self._bytes -= old.nbytes
        return wave, release

    def track(self, track: Track, samples: int = SAMPLES) -> np.ndarray:
        """One track alone, ``(samples,)`` float32, at the level of its samples."""
        drums = track.program < 0
        bank, program = (DRUM_BANK, -1 - track.program) if drums else (0, track.program)
        out = np.zeros(samples, np.float32)
        for note in track.notes:
            begin = round(note.start * RATE)
            if begin < 0 or begin >= samples:
                continue
            wave, release = self._held(bank, program, note)
            hold = len(wave) if drums else min(int(note.length * RATE), len(wave))
            tail = min(int(release * RATE), len(wave) - hold)
            end = min(begin + hold + tail, samples)
            # velocity to amplitude: the specification's concave default is (v / 127)^2
            loud = np.float32((note.velocity / 127.0) ** 2)
            piece = wave[: end - begin] * loud
            if tail > 0 and hold < len(piece):
                piece[hold:] *= np.exp(-6.0 * np.arange(len(piece) - hold, dtype=np.float32) / tail)
            out[begin:end] += piece
        return out


@lru_cache(maxsize=8)
def _room(name: str) -> np.ndarray:
    """Spectrum of a room: decaying noise that darkens with time, 12 ms pre-delay, unit energy, fixed seed."""
    rng = np.random.default_rng(len(name) * 7919 + int(ROOMS[name] * 1000))
    length = min(int(ROOMS[name] * RATE), _IR - 600)
    t = np.arange(length) / RATE
    noise = rng.standard_normal(length)
    dark = signal.lfilter([0.25], [1.0, -0.75], noise)
    blend = np.exp(-6.0 * t / ROOMS[name])
    tail = (blend * noise + (1.0 - blend) * 2.0 * dark) * np.exp(-6.9 * t / ROOMS[name])
    response = np.zeros(_FFT, np.float32)
    response[530 : 530 + length] = tail / np.sqrt(np.sum(tail**2))
    return np.asarray(fft.rfft(response))


def reverb(audio: np.ndarray, room: str, wet: float) -> np.ndarray:
    """``audio`` ``(441000,)`` in a room; ``wet`` is the amplitude of the tail against the direct sound."""
    if wet <= 0.0:
        return audio
    padded = np.zeros(_FFT, np.float32)
    padded[: len(audio)] = audio
    tail = fft.irfft(fft.rfft(padded) * _room(room), _FFT)[: len(audio)]
    return (audio + np.float32(wet) * tail).astype(np.float32)
