"""Writing audio: one clip, one file, atomically."""

from __future__ import annotations

import os

import numpy as np
from torch import Tensor

from fluxlight.files import atomic_path


def write_audio(path: str | os.PathLike[str], audio: Tensor, sample_rate: int) -> str:
    """Write a mono clip ``(N,)`` as 16 bit; a WAV whose samples leave [-1, 1] as 32-bit float, so that nothing clips.

    Args:
        path: of the file; its suffix, ``.wav`` or ``.flac``, is the format.
        audio: samples, nominally in [-1, 1].
        sample_rate: Hz.

    Returns:
        What a reader must know, or "": that the file is float, or (a FLAC has none) how many samples were clipped.
    """
    import soundfile

    samples = audio.detach().float().cpu().numpy()
    suffix, over = os.fspath(path).rpartition(".")[2].upper(), int((np.abs(samples) > 1).sum())
    whole = not over or suffix != "WAV"
    with atomic_path(path) as temporary:
        kept = np.clip(samples, -1, 1) if whole else samples
        soundfile.write(temporary, kept, sample_rate, subtype="PCM_16" if whole else "FLOAT", format=suffix)
    if not over:
        return ""
    return f"{over} samples clipped" if whole else "beyond full scale: 32-bit float file"


def as_written(audio: Tensor) -> Tensor:
    """The samples ``(N,)`` that a WAV file of `write_audio` gives back."""
    wave = audio.detach().float().cpu()
    return wave if bool((wave.abs() > 1).any()) else (wave * 32767).round() / 32768
