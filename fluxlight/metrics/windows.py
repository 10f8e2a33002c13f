"""Windows: fadtk's rule, under which a clip is many overlapping windows instead of one embedding (FACTS section 9).

10 s windows with a 1 s hop, the tail zero-padded, all windows of all clips pooled. FAD over windows and FAD over clips
are on different scales: a ``Reference`` carries its rule in ``windows``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SECONDS, HOP = 10.0, 1.0
FADTK = "10s/1s"
"""What a reference made of such windows writes into ``Reference.windows``."""


def cut(
    audio: NDArray[np.float32], sample_rate: int, seconds: float = SECONDS, hop: float = HOP
) -> NDArray[np.float32]:
    """Windows ``(w, seconds * sample_rate)`` of a clip ``(N,)``, one starting every ``hop`` seconds before its end."""
    if audio.ndim != 1 or audio.size == 0:
        raise ValueError(f"windows: expected a mono clip (N,) with samples, got shape {audio.shape}")
    length, step = round(seconds * sample_rate), round(hop * sample_rate)
    starts = range(0, audio.size, step)
    padded = np.pad(audio, (0, length))
    return np.stack([padded[start : start + length] for start in starts])


def window_embeddings(audio: NDArray[np.float32], sample_rate: int, clap: Any) -> NDArray[np.float64]:
    """Embeddings ``(w, d)`` of the windows of a clip ``(N,)``; stack those of all clips and measure FAD as usual."""
    import torch

    said = clap.embed_audio(torch.from_numpy(cut(audio, sample_rate)), sample_rate)
    return said.detach().cpu().numpy().astype(np.float64)
