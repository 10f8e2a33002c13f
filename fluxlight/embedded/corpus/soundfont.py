"""SoundFont 2 reader: presets resolved to the sample zones a note plays (SoundFont Technical Specification 2.04).

Our own reader, because symusic 0.5's synthesiser plays many zones of TimGM6mb.sf2 at the wrong pitch (its piano is
off by 3 to 27 semitones, measured) and ignores pitch bend: a corpus whose captions name the key cannot use it.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

# Generator numbers of section 8.1.2
START_FINE, END_FINE, LOOP_START_FINE, LOOP_END_FINE, START_COARSE = 0, 1, 2, 3, 4
FILTER_FC, END_COARSE, LOOP_START_COARSE, LOOP_END_COARSE = 8, 12, 45, 50
DELAY, ATTACK, HOLD, DECAY, SUSTAIN, RELEASE = 33, 34, 35, 36, 37, 38
INSTRUMENT, KEY_RANGE, VEL_RANGE, ATTENUATION, COARSE_TUNE, FINE_TUNE = 41, 43, 44, 48, 51, 52
SAMPLE_ID, SAMPLE_MODES, SCALE_TUNING, ROOT_KEY, FIXED_KEY = 53, 54, 56, 58, 46
# Defaults of section 8.1.3 for the generators used here; all others are 0.
DEFAULTS = {FILTER_FC: 13500, DELAY: -12000, ATTACK: -12000, HOLD: -12000, DECAY: -12000, RELEASE: -12000,
            SCALE_TUNING: 100, ROOT_KEY: -1, FIXED_KEY: -1}
# Generators that a preset zone may not add to (sample offsets, ranges, links).
NOT_ADDITIVE = {START_FINE, END_FINE, LOOP_START_FINE, LOOP_END_FINE, START_COARSE, END_COARSE, LOOP_START_COARSE,
                LOOP_END_COARSE, INSTRUMENT, KEY_RANGE, VEL_RANGE, SAMPLE_ID, SAMPLE_MODES, ROOT_KEY, FIXED_KEY}


@dataclass(frozen=True)
class Zone:
    """One sample as one note plays it.

    Times are seconds, ``sustain`` and ``gain`` are linear amplitudes, ``cutoff`` is Hz, positions are samples.
    """

    keys: tuple[int, int]
    velocities: tuple[int, int]
    start: int
    end: int
    loop: tuple[int, int] | None
    rate: int
    root: int
    tune: float
    scale: float
    gain: float
    attack: float
    hold: float
    decay: float
    sustain: float
    release: float
    cutoff: float


def _seconds(timecents: float) -> float:
    return 0.0 if timecents <= -11000 else min(2.0 ** (timecents / 1200.0), 20.0)


class SoundFont:
    """A SoundFont file: ``data`` holds all samples (float32, memory shared), ``zones`` finds those of a note."""

    def __init__(self, path: Path) -> None:
        chunks = self._chunks(path)
        self.data = np.frombuffer(chunks["smpl"], dtype="<i2").astype(np.float32) / 32768.0
        self._samples = [struct.unpack("<20sIIIIIBbHH", chunks["shdr"][i : i + 46])
                         for i in range(0, len(chunks["shdr"]) - 46, 46)]
        self._instruments = self._zones(chunks["inst"], 22, 20, chunks["ibag"], chunks["igen"])
        presets = self._zones(chunks["phdr"], 38, 24, chunks["pbag"], chunks["pgen"])
        numbers = [struct.unpack("<HH", chunks["phdr"][i * 38 + 20 : i * 38 + 24]) for i in range(len(presets))]
        self._presets = {(bank, program): zones for (program, bank), zones in zip(numbers, presets, strict=True)}
        self._resolved: dict[tuple[int, int], list[Zone]] = {}

    @staticmethod
    def _chunks(path: Path) -> dict[str, bytes]:
        raw = path.read_bytes()
        if raw[:4] != b"RIFF" or raw[8:12] != b"sfbk":
            raise ValueError(f"SoundFont {path} is not a SoundFont 2 file: reinstall pretty_midi")
        found: dict[str, bytes] = {}

        def walk(start: int, end: int) -> None:
            while start + 8 <= end:
                name, size = raw[start : start + 4], struct.unpack("<I", raw[start + 4 : start + 8])[0]
                if name == b"LIST":
                    walk(start + 12, start + 8 + size)
                else:
                    found[name.decode("latin-1")] = raw[start + 8 : start + 8 + size]
                start += 8 + size + (size & 1)

        walk(12, len(raw))
        return found

    @staticmethod
    def _zones(heads: bytes, size: int, bag_at: int, bags: bytes, gens: bytes) -> list[list[dict[int, int]]]:
        """Generator dictionaries of every zone of every head, the global zone already merged in."""
        starts = [struct.unpack("<H", heads[i + bag_at : i + bag_at + 2])[0] for i in range(0, len(heads), size)]
        gen_at = [struct.unpack("<H", bags[i : i + 2])[0] for i in range(0, len(bags), 4)]
        result = []
        for first, last in itertools.pairwise(starts):
            zones: list[dict[int, int]] = []
            base: dict[int, int] = {}
            for bag in range(first, last):
                zone: dict[int, int] = {}
                for g in range(gen_at[bag], gen_at[bag + 1]):
                    oper = struct.unpack("<H", gens[g * 4 : g * 4 + 2])[0]
                    kind = "<H" if oper in (KEY_RANGE, VEL_RANGE, INSTRUMENT, SAMPLE_ID) else "<h"
                    zone[oper] = struct.unpack(kind, gens[g * 4 + 2 : g * 4 + 4])[0]
                if INSTRUMENT not in zone and SAMPLE_ID not in zone:
                    if bag == first:  # section 7.3: only the first zone may be global
                        base = zone
                    continue
                zones.append({**base, **zone})
            result.append(zones)
        return result

    def _resolve(self, bank: int, program: int) -> list[Zone]:
        zones: list[Zone] = []
        for outer in self._presets.get((bank, program), []):
            for inner in self._instruments[outer[INSTRUMENT]]:
                g = {**DEFAULTS, **inner}
                for oper, amount in outer.items():
                    if oper not in NOT_ADDITIVE:
                        g[oper] = g.get(oper, 0) + amount
                keys, vels = self._meet(outer, inner, KEY_RANGE), self._meet(outer, inner, VEL_RANGE)
                if keys[0] > keys[1] or vels[0] > vels[1]:
                    continue
                _, start, end, loop_a, loop_b, rate, pitch, correction, _, kind = self._samples[g[SAMPLE_ID]]
                if kind & 0x8000:  # ROM sample
                    continue
                start += g.get(START_FINE, 0) + 32768 * g.get(START_COARSE, 0)
                end += g.get(END_FINE, 0) + 32768 * g.get(END_COARSE, 0)
                loop_a += g.get(LOOP_START_FINE, 0) + 32768 * g.get(LOOP_START_COARSE, 0)
                loop_b += g.get(LOOP_END_FINE, 0) + 32768 * g.get(LOOP_END_COARSE, 0)
                looped = g.get(SAMPLE_MODES, 0) & 1 and loop_b - loop_a > 8 and loop_b <= end
                zones.append(Zone(
                    keys, vels, start, end, (loop_a - start, loop_b - start) if looped else None, rate,
                    root=g[ROOT_KEY] if g[ROOT_KEY] >= 0 else (pitch if pitch < 128 else 60),
                    tune=g.get(COARSE_TUNE, 0) + (g.get(FINE_TUNE, 0) + correction) / 100.0,
                    scale=g[SCALE_TUNING] / 100.0,
                    # 0.4 of the written attenuation, as the hardware did and other players do
                    gain=10.0 ** (-0.4 * max(g.get(ATTENUATION, 0), 0) / 200.0),
                    attack=_seconds(g[ATTACK]), hold=_seconds(g[HOLD]), decay=_seconds(g[DECAY]),
                    sustain=10.0 ** (-min(max(g.get(SUSTAIN, 0), 0), 1440) / 200.0),
                    release=_seconds(g[RELEASE]), cutoff=8.176 * 2.0 ** (g[FILTER_FC] / 1200.0)))
        return zones

    @staticmethod
    def _meet(a: dict[int, int], b: dict[int, int], oper: int) -> tuple[int, int]:
        x, y = a.get(oper, 0x7F00), b.get(oper, 0x7F00)
        return max(x & 255, y & 255), min(x >> 8, y >> 8)

    def zones(self, bank: int, program: int, key: int, velocity: int) -> list[Zone]:
        """The zones that sound when ``key`` is struck, at most 3 (layers beyond are inaudible in the mix)."""
        place = (bank, program)
        if place not in self._resolved:
            self._resolved[place] = self._resolve(bank, program)
        fits = [z for z in self._resolved[place] if z.velocities[0] <= velocity <= z.velocities[1]]
        hit = [z for z in fits if z.keys[0] <= key <= z.keys[1]]
        if not hit and fits and bank != 128:  # a hole in the keyboard: the nearest sample, transposed
            near = min(max(z.keys[0] - key, key - z.keys[1]) for z in fits)
            hit = [z for z in fits if max(z.keys[0] - key, key - z.keys[1]) == near]
        return hit[:3]


@lru_cache(maxsize=1)
def soundfont() -> SoundFont:
    """TimGM6mb.sf2, read in place from the installed pretty_midi wheel (never copied: GPL-2)."""
    spec = find_spec("pretty_midi")
    folder = Path(next(iter(spec.submodule_search_locations or [""]))) if spec else Path()
    path = folder / "TimGM6mb.sf2"
    if spec is None or not path.exists():
        raise FileNotFoundError("SoundFont TimGM6mb.sf2 of pretty_midi is missing: pip install -e '.[embedded]'")
    return SoundFont(path)
