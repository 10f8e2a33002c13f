"""Loudness of a clip by ITU-R BS.1770: the published delivery rule, and the rule that systems are compared under."""

from __future__ import annotations

import math

from torch import Tensor

from fluxlight.postprocess.base import noted, why_not
from fluxlight.types import Clip

UNMEASURED = "silent, below the gate of -70 LUFS"
LOWEST_MEASURED = 8_000  # Hz; at lower rates the filters of BS.1770 do not hold, and overflow below 4 kHz
LIFTED = 44_100  # Hz; where such a clip is measured instead
MOST_CHANNELS = 5  # BS.1770-3 knows the weights of five


def integrated_loudness(audio: Tensor, sample_rate: int) -> float:
    """Loudness in LUFS (ITU-R BS.1770 by pyloudnorm); -inf below its gate of -70.

    Args:
        audio: mono ``(N,)``, or channels ``(N, C)``, whose powers add up; of more than five the mean is measured.
        sample_rate: Hz; a clip below 8 kHz is measured at 44.1 kHz.
    """
    import numpy as np
    import pyloudnorm

    samples = audio.detach().double().cpu().numpy()
    if samples.ndim == 2 and samples.shape[1] > MOST_CHANNELS:
        samples = samples.mean(axis=1)
    if sample_rate < LOWEST_MEASURED:
        import soxr

        samples, sample_rate = soxr.resample(samples, sample_rate, LIFTED), LIFTED
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(pyloudnorm.Meter(sample_rate).integrated_loudness(samples))


class Loudness:
    """The published delivery rule (FACTS section 4): to -16.5 LUFS; if the peak then exceeds 0.99, rescale to 0.95.

    Args:
        target: LUFS.
        ceiling: peak above which the clip is rescaled.
        peak: the peak it is rescaled to.
    """

    def __init__(self, target: float = -16.5, ceiling: float = 0.99, peak: float = 0.95) -> None:
        if not peak <= ceiling:
            raise ValueError(f"peak is {peak} and ceiling {ceiling}: peak must not exceed ceiling")
        self.target, self.ceiling, self.peak = target, ceiling, peak

    def __call__(self, clip: Clip) -> Clip:
        """A clip ``(N,)`` at the target loudness, or at the peak limit below it."""
        reason = why_not(clip)
        loudness = float("-inf") if reason else integrated_loudness(clip.audio, clip.sample_rate)
        if not math.isfinite(loudness):
            return noted(clip, clip.audio, f"loudness unchanged: {reason or UNMEASURED}")
        audio = clip.audio * 10 ** ((self.target - loudness) / 20)
        top = float(audio.abs().max())
        if top > self.ceiling:
            note = f"loudness: peak-limited to {self.peak} below {self.target} LUFS"
            return noted(clip, audio * (self.peak / top), note)
        return noted(clip, audio, f"loudness: {self.target} LUFS")


class LockedLoudness:
    """The comparison rule: exactly ``target`` LUFS, no limiting, so samples may exceed 1.

    Args:
        target: LUFS; -23 leaves room for the peaks of music (EBU R 128).
    """

    def __init__(self, target: float = -23.0) -> None:
        self.target = target

    def __call__(self, clip: Clip) -> Clip:
        """A clip ``(N,)`` at exactly the target loudness."""
        reason = why_not(clip)
        loudness = float("-inf") if reason else integrated_loudness(clip.audio, clip.sample_rate)
        if not math.isfinite(loudness):
            return noted(clip, clip.audio, f"locked loudness unchanged: {reason or UNMEASURED}")
        return noted(clip, clip.audio * 10 ** ((self.target - loudness) / 20), f"locked: {self.target} LUFS")
