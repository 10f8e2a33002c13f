"""Clips at another rate, and the part of them that is listened to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def resample(audio: Tensor, sample_rate: int, target: int = 44100) -> Tensor:
    """Mono clips ``(B, N)`` at ``target`` Hz."""
    if sample_rate == target:
        return audio
    import soxr

    wave = audio if audio.dtype in (torch.float32, torch.float64) else audio.float()  # numpy knows no bfloat16
    return torch.from_numpy(np.ascontiguousarray(soxr.resample(wave.cpu().numpy().T, sample_rate, target).T))


def centre(audio: Tensor, samples: int = 441000) -> Tensor:
    """The centre ``samples`` of clips ``(B, N)``; shorter clips as they are."""
    start = max(0, (audio.shape[1] - samples) // 2)
    return audio[:, start : start + samples]
