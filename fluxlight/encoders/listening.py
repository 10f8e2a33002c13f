"""How the published judges listen: mono, checked, the centre 10 s, at the rate they were trained on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fluxlight.clips.resample import centre, resample

LOWEST = 16000
"""Hz below which a published judge refuses: half of the range it was trained on is missing (our choice)."""

SECONDS = 10
"""Length of the deterministic centre crop (FACTS section 5: the released score tables)."""


def listen(audio: Tensor | np.ndarray, sample_rate: int, target: int, crop: bool = True) -> Tensor:
    """Clips ``(B, N)`` or ``(N,)`` as float32 ``(B, M)`` at ``target`` Hz on the CPU, at most 10 s of each.

    Args:
        audio: mono samples, nominally in [-1, 1].
        sample_rate: Hz of ``audio``.
        target: Hz of the judge.
        crop: keep the centre 10 s; False keeps all.

    Raises:
        ValueError: not mono, empty, not finite, or a rate that no music comes at.
    """
    audio = torch.as_tensor(audio).detach().to("cpu", torch.float32)
    audio = audio[None] if audio.ndim == 1 else audio
    if audio.ndim != 2 or audio.shape[1] == 0:
        raise ValueError(f"audio has shape {tuple(audio.shape)}: pass mono samples (B, N), N > 0")
    if isinstance(sample_rate, bool) or sample_rate != int(sample_rate) or not LOWEST <= sample_rate <= 384000:
        raise ValueError(f"sample_rate is {sample_rate} Hz: a published judge takes {LOWEST} to 384000 Hz")
    bad = ~torch.isfinite(audio).all(dim=1)
    if bool(bad.any()):
        raise ValueError(f"audio row {int(bad.nonzero()[0])} holds NaN or infinity: drop this clip first")
    # cut before resampling: a long file costs no more than its centre
    audio = centre(audio, SECONDS * int(sample_rate)) if crop else audio
    audio = resample(audio, int(sample_rate), target) if len(audio) else audio
    # the resampler's rounding may add one sample
    return audio[:, : SECONDS * target] if crop else audio
