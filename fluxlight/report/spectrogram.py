"""Spectrogram: a clip as a small mel picture for the listening page and the loggers."""

from __future__ import annotations

import os

import numpy as np

from fluxlight.files import atomic_path

WIDTH, BANDS, RANGE_DB = 360, 96, 70.0


def mel_picture(audio: np.ndarray, sample_rate: int, width: int = WIDTH, bands: int = BANDS) -> np.ndarray:
    """Mel spectrogram ``(bands, width)`` in [0, 1], low notes in the bottom row, 70 dB below the loudest is 0."""
    import torch

    from fluxlight.codec.mel import mel_filters

    n_fft = 2048
    x = torch.nan_to_num(torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32)))
    x = torch.nn.functional.pad(x, (n_fft // 2, n_fft // 2))
    hop = max(1, (x.numel() - n_fft) // max(width - 1, 1))
    frames = x.unfold(0, n_fft, hop)[:width] * torch.hann_window(n_fft)
    power = torch.fft.rfft(frames).abs().square() @ mel_filters(sample_rate, n_fft, bands).T
    decibel = 10 * torch.log10(power.clamp(min=1e-10)).numpy().T
    top = max(float(decibel.max()), -60.0)  # a silent clip stays black instead of showing its rounding noise
    return np.flipud(np.clip((decibel - top + RANGE_DB) / RANGE_DB, 0, 1))


def coloured(picture: np.ndarray) -> np.ndarray:
    """A picture ``(bands, width)`` in [0, 1] as colours ``(bands, width, 3)`` uint8."""
    from matplotlib import colormaps

    return (colormaps["magma"](picture)[..., :3] * 255).astype(np.uint8)


def save_picture(picture: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Write a picture ``(bands, width)`` in [0, 1] as a colour JPEG of a few kilobytes."""
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(coloured(picture)).save(temporary, format="JPEG", quality=80)
