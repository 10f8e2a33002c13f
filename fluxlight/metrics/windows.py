"""Windows: fadtk's rule, under which a clip is many overlapping windows instead of one embedding (FACTS section 9).

10 s windows with a 1 s hop, the tail zero-padded, all windows of all clips pooled. FAD over windows and FAD over clips
are on different scales: a ``Reference`` carries its rule in ``windows``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluxlight.metrics.arrays import Array, array64, embeddings64
from fluxlight.metrics.frechet import root_trace

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
    """Embeddings ``(w, d)`` of the windows of a clip ``(N,)``.

    A model with a way of its own (``embed_windows``: LAION-CLAP is resampled to 48 kHz first, as fadtk does) takes it.
    """
    import torch

    if hasattr(clap, "embed_windows"):
        said = clap.embed_windows(torch.from_numpy(audio), sample_rate)
    else:
        said = clap.embed_audio(torch.from_numpy(cut(audio, sample_rate)), sample_rate)
    return array64(said)


class WindowGram:
    """FAD of the pooled windows of any resample of clips to a fixed reference; a clip comes or goes with all of them.

    A hundred clips are a thousand windows, so the d x d form is the smaller one here: the windows are projected by the
    root of the reference covariance once.

    Args:
        clips: windows of each clip, n arrays ``(w_i, d)``.
        mean: reference mean ``(d,)``.
        cov: reference covariance ``(d, d)``.
    """

    def __init__(self, clips: Sequence[Any], mean: Any, cov: Any) -> None:
        rows = embeddings64(np.concatenate([array64(clip) for clip in clips]), "windows")
        mean, cov = array64(mean), array64(cov)
        if mean.shape != (rows.shape[1],):
            raise ValueError(f"FAD: windows have {rows.shape[1]} dimensions, reference {mean.shape}: use one embedder")
        self.n = len(clips)
        self._owner = np.repeat(np.arange(self.n), [len(clip) for clip in clips])
        values, vectors = np.linalg.eigh(cov)
        self._offset = rows - mean
        self._rooted = self._offset @ (vectors * np.sqrt(np.clip(values, 0, None)))
        self._squared = (self._offset * self._offset).sum(axis=1)
        self._trace = float(np.trace(cov))

    def distance(self, counts: Array | None = None) -> float:
        """FAD when clip i is taken ``counts[i]`` times ``(n,)``; every clip once by default."""
        w = (np.ones(self.n) if counts is None else array64(counts))[self._owner]
        total = w.sum()
        if total < 2:
            raise ValueError(f"FAD: {total:g} windows, a covariance needs at least 2")
        centre, middle = w @ self._offset / total, w @ self._rooted / total
        shift = float(centre @ centre)
        trace = (float(w @ self._squared) - total * shift) / (total - 1)
        cross = ((self._rooted * w[:, None]).T @ self._rooted - total * np.outer(middle, middle)) / (total - 1)
        return float(max(shift + trace + self._trace - 2 * root_trace(cross), 0.0))
