"""Reading a clip: one audio file to its channels, or to mono samples."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluxlight.clips.faults import cancelling

LARGEST = 1 << 31
"""Samples of a channel beyond which a header is not believed (13 hours at 44.1 kHz): the file is read to its end."""
BLOCK = 1 << 18


def read_channels(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], int]:
    """Samples ``(N, channels)`` float32 and the sample rate in Hz of an audio file.

    A header that states no length, or an absurd one (streams, encoders that were stopped), costs nothing: the file is
    read as far as it goes. A name that is no UTF-8 is read, too.

    Raises:
        ValueError: the file cannot be read or holds no samples; the line names it.
    """
    import soundfile

    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            if file.frames <= LARGEST:
                return file.read(dtype="float32", always_2d=True), int(file.samplerate)
        return _streamed(path)
    except (soundfile.SoundFileError, OSError, MemoryError) as error:
        why = str(error).partition(": ")[2] or str(error)
        raise ValueError(f"audio file {os.fspath(path)} cannot be read ({why}): render it again") from None


def _streamed(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], int]:
    """The same in blocks, without a look at the length."""
    import soundfile

    class Stream(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            return False  # seeking needs a length, and soundfile seeks after every read

    blocks: list[Any] = []
    with Stream(os.fsencode(path)) as file:
        while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
            blocks.append(block)
        return np.concatenate(blocks) if blocks else np.zeros((0, file.channels), np.float32), int(file.samplerate)


def read_clip(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], int]:
    """Mono samples ``(N,)`` float32 (channel mean) and the sample rate in Hz of an audio file."""
    audio, sample_rate = read_channels(path)
    return audio.mean(axis=1), sample_rate


def heard(channels: NDArray[np.float32], path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """The mean of channels ``(N, C)`` as ``(N,)``, for whoever learns from it or plays it.

    Raises:
        ValueError: the channels cancel, so that the mean is a residue of rounding; the line names the file.
    """
    if fault := cancelling(channels):
        raise ValueError(f"audio file {os.fspath(path)}: {fault}: turn one of them round, or leave the file out")
    return channels.mean(axis=1)
