"""Writing audio: one clip, one file, atomically, and never changed by its format."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from fluxlight.clips.exact import exact_format
from fluxlight.files import atomic_path


def write_audio(path: str | os.PathLike[str], audio: Tensor, sample_rate: int) -> tuple[str, str]:
    """Write a mono clip ``(N,)`` as 16 bit; a WAV that 16 bits would change as 32-bit float (`exact_format`).

    Args:
        path: of the file; its suffix, ``.wav`` or ``.flac``, is the format.
        audio: samples, nominally in [-1, 1].
        sample_rate: Hz.

    Returns:
        What it was written as (soundfile's subtype), and a note where that is not what it usually is: a float file, or
        (a FLAC has none) clipped samples.
    """
    import soundfile
    from scipy.io import wavfile

    samples = audio.detach().float().cpu().numpy()
    format = os.fspath(path).rpartition(".")[2].upper()
    subtype, note = exact_format(samples) if format == "WAV" else ("PCM_16", "")
    over = int((np.abs(samples) > 1).sum())
    if over and subtype == "PCM_16":
        samples, note = np.clip(samples, -1, 1), note or f"{over} samples clipped"
    with atomic_path(path) as temporary:
        if subtype == "FLOAT":
            # libsndfile notes the time in a float file: equal clips must be equal files
            with temporary.open("wb") as file:
                wavfile.write(file, sample_rate, samples.astype(np.float32))
        else:
            soundfile.write(os.fsencode(temporary), samples, sample_rate, subtype=subtype, format=format)
    return subtype, note


def as_written(audio: Tensor) -> Tensor:
    """The clip ``(N,)`` rounded to 16 bits, unless it is written as float: a WAV of it gives back the very samples."""
    wave = audio.detach().float().cpu()
    if exact_format(wave.numpy())[0] == "FLOAT":
        return wave
    return torch.round(wave.clamp(-1, 1) * 32767) / 32768
