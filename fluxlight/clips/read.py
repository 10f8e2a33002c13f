"""Reading a clip: one audio file to mono samples."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray


def read_clip(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], int]:
    """Mono samples ``(N,)`` float32 (channel mean) and the sample rate in Hz of an audio file."""
    import soundfile

    try:
        audio, sample_rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(f"audio file {path} cannot be read ({error}): render it again") from None
    return audio.mean(axis=1), int(sample_rate)
