"""How a clip is written without being changed: 16 bits where it fits into them, 32-bit float where it does not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FULL_SCALE = 32767 / 32768
"""The highest sample that 16 bits hold."""
FAINT = 1e-3
"""RMS below which the rounding of 16 bits is heard and measured: 41 dB above the rounding noise (our choice)."""


def exact_format(samples: NDArray[np.float32]) -> tuple[str, str]:
    """How samples ``(N,)`` are written as WAV without clipping: soundfile's subtype, and a note where it is not 16 bit.

    A locked clip must be at its level: cut off at full scale, or rounded to a few steps, it is at another one.
    """
    if not samples.size or not np.isfinite(samples).all():
        return "PCM_16", ""
    over = int(((samples > FULL_SCALE + 1 / 65536) | (samples < -1 - 1 / 65536)).sum())
    if over:
        return "FLOAT", f"written as 32-bit float: {over} samples lie beyond full scale"
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    if 0 < power < FAINT**2:
        return "FLOAT", "written as 32-bit float: too faint for 16 bits"
    return "PCM_16", ""
