"""Reading a clip: one audio file to its channels, or to mono samples."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from math import gcd
from typing import Any, NamedTuple

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
    with _stream(path) as file:
        blocks = list(_blocks(file))
        return np.concatenate(blocks) if blocks else np.zeros((0, file.channels), np.float32), int(file.samplerate)


def _stream(path: str | os.PathLike[str]) -> Any:
    import soundfile

    class Stream(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            return False  # seeking needs a length, and soundfile seeks after every read

    return Stream(os.fsencode(path))


def _blocks(file: Any) -> Iterator[NDArray[np.float32]]:
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        yield block


class Piece(NamedTuple):
    """Part of a file: mono samples ``(n,)`` float32, the mean of the channels; and what is wrong with these."""

    wave: NDArray[np.float32]
    fault: str


class Head(NamedTuple):
    """What the header of an audio file says: Hz, and seconds, or None where it states no believable length."""

    sample_rate: int
    seconds: float | None


def read_head(path: str | os.PathLike[str]) -> Head:
    """Rate and length of an audio file without its samples.

    Raises:
        ValueError: it cannot be read; the line says why.
    """
    import soundfile

    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            rate = int(file.samplerate)
            return Head(rate, file.frames / rate if file.frames <= LARGEST else None)
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(str(error).partition(": ")[2] or str(error)) from None


def read_windows(
    path: str | os.PathLike[str], begins: Sequence[float], seconds: float, target: int
) -> Iterator[Piece]:
    """Pieces of a long file as mono samples at ``target`` Hz; the file is decoded once, and no further than needed.

    Args:
        path: the file.
        begins: seconds where pieces begin, ascending; they may overlap.
        seconds: length of a piece; one at the end of the file may be shorter.
        target: Hz.

    Yields:
        The pieces, at most ``seconds * target`` samples each.

    Raises:
        ValueError: the file cannot be read.
    """
    import soundfile
    import soxr

    try:
        with _stream(path) as file:
            rate = int(file.samplerate)
            up, down = target // gcd(target, rate), rate // gcd(target, rate)
            # resampling looks around: a twentieth of a second on both sides, whole in both rates
            around = 0 if rate == target else down * max(1, round(rate / 20 / down))
            held = np.zeros((0, file.channels), np.float32)
            blocks, first, wanted = _blocks(file), 0, round(seconds * rate)
            for begin in begins:
                start = round(begin * rate)
                low = max(0, start - around)
                while first + len(held) < start + wanted + around and (block := next(blocks, None)) is not None:
                    held = np.concatenate([held, block])
                    # what lies before the piece is of no use any more
                    gone = min(max(0, low - first), len(held))
                    held, first = held[gone:], first + gone
                held, first = held[max(0, low - first) :], max(first, low)
                channels = held[: start + wanted + around - first]
                piece, fault = channels.mean(axis=1), cancelling(channels)
                if rate != target:
                    before = (start - first) * up // down
                    piece = soxr.resample(piece, rate, target)[before:] if len(piece) else piece
                yield Piece(piece[: round(seconds * target)], fault)
    except (soundfile.SoundFileError, OSError, MemoryError) as error:
        raise ValueError(str(error).partition(": ")[2] or str(error)) from None


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
