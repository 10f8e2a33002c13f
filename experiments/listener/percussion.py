"""Percussion: the share of a clip's energy that is struck rather than held, from its spectrogram alone.

Held tones are ridges along time, strokes are ridges along frequency: a median along either suppresses the other
(Fitzgerald, *Harmonic/Percussive Separation using Median Filtering*, DAFx 2010; soft masks with exponent 2 and windows
of 17 frames and bins, as there).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import median_filter

N_FFT, HOP, LENGTH = 2048, 1024, 17
"""Window and hop in samples at 44.1 kHz (our choice), and length of both medians."""


def percussive_share(samples: np.ndarray) -> float:
    """Share in [0, 1] of the energy of samples ``(N,)`` that the percussive mask keeps; 0 for silence."""
    x = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    magnitude = torch.stft(x, N_FFT, HOP, window=torch.hann_window(N_FFT), return_complex=True).abs().numpy()
    held = median_filter(magnitude, (1, LENGTH)) ** 2
    struck = median_filter(magnitude, (LENGTH, 1)) ** 2
    energy = magnitude**2
    total = float(energy.sum())
    mask = struck / np.maximum(held + struck, 1e-20)
    return float((energy * mask).sum()) / total if total > 0 else 0.0
