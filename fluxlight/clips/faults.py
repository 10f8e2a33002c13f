"""What is wrong with a clip: not finite, silent, clipped, cut short, of a low rate, of channels that cancel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

SILENT_PEAK = 1e-6
"""Peak under which a clip is silent (FACTS section 8: the published loader rejects it)."""
CLIPPED_LEVEL, CLIPPED_SHARE = 0.999, 0.001
"""A clip is clipped when more than 0.1 % of its samples reach 0.999 (our choice)."""
LENGTH_TOLERANCE = 0.05
"""Seconds a clip may differ from the expected length (our choice; the published zero pad is 0.015 s)."""
LOWEST_RATE = 16_000  # Hz; below it most of the range of music is missing
TAIL_SECONDS = 1.0
"""Digital silence at the end longer than this counts as truncation (our choice)."""
CANCEL, CANCELLED = "channels cancel", 10.0
"""dB by which the mean of the channels may lie below them; unrelated channels lie 3 dB apart (our choice)."""


def cancelling(channels: NDArray[np.float32]) -> str:
    """The fault of channels ``(N, C)`` whose mean, which judges hear, is far fainter than they are; else nothing."""
    if channels.ndim < 2 or channels.shape[1] < 2 or not channels.size:
        return ""
    sound = np.where(np.isfinite(channels), channels, 0).astype(np.float64)
    power, mean = float(np.square(sound).mean()), float(np.square(sound.mean(axis=1)).mean())
    if power <= SILENT_PEAK**2 or mean > power * 10 ** (-CANCELLED / 10):
        return ""
    below = f"{10 * np.log10(power / mean):.0f} dB below them" if mean > 0 else "silence"
    return f"{CANCEL} (their mean is {below})"


def faults_of(channels: NDArray[np.float32], sample_rate: int, seconds: float | None) -> list[str]:
    """What is wrong with an audio file: ``find_faults`` of the mean of its channels ``(N, C)``, and `cancelling`."""
    fault = cancelling(channels)
    return [*([fault] if fault else []), *find_faults(channels.mean(axis=1), sample_rate, seconds)]


def faulty_lines(faults: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str]:
    """Row -> clip -> what is wrong with it, as a line of Markdown for each row."""
    return [
        f"- {row}: " + "; ".join(f"{clip} {', '.join(what)}" for clip, what in found.items())
        for row, found in faults.items()
        if found
    ]


def find_faults(audio: NDArray[np.float32], sample_rate: int, seconds: float | None) -> list[str]:
    """What is wrong with a clip ``(N,)``: not finite, low rate, silent, clipped, truncated, wrong length.

    Args:
        audio: samples.
        sample_rate: Hz.
        seconds: expected length, or None when any length will do.
    """
    faults: list[str] = []
    bad = ~np.isfinite(audio)
    if bad.any():
        faults.append(f"not finite ({int(bad.sum())} samples)")
    audio = np.where(bad, 0, audio)
    length, level = audio.size / sample_rate, np.abs(audio)
    if sample_rate < LOWEST_RATE:
        faults.append(f"low sample rate ({sample_rate} Hz)")
    if seconds is not None and length < seconds - LENGTH_TOLERANCE:
        faults.append(f"truncated ({length:.2f} s of {seconds:g} s)")
    elif seconds is not None and length > seconds + LENGTH_TOLERANCE:
        faults.append(f"wrong length ({length:.2f} s, not {seconds:g} s)")
    if not audio.size or level.max() < SILENT_PEAK:
        return [*faults, "silent"]
    if (share := float((level >= CLIPPED_LEVEL).mean())) > CLIPPED_SHARE:
        faults.append(f"clipped ({share:.1%} of samples)")
    tail = (audio.size - 1 - int(np.flatnonzero(level >= SILENT_PEAK)[-1])) / sample_rate
    if tail > TAIL_SECONDS:
        faults.append(f"truncated (last {tail:.1f} s are digital silence)")
    return faults
