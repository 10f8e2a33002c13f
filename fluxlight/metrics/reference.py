"""Reference: the frozen statistics of a reference set, and everything a number measured against it has to say."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluxlight.files import atomic_path, hash_of
from fluxlight.metrics.arrays import Array, array64, embeddings64
from fluxlight.metrics.frechet import fad, moments
from fluxlight.metrics.kad import median_bandwidth
from fluxlight.metrics.resampling import Floor, real_floor
from fluxlight.metrics.windows import FADTK


@dataclass
class Reference:
    """Statistics of reference clips under one embedder.

    Attributes:
        name: what the reference is called in a table.
        mean, cov: ``(d,)`` and ``(d, d)`` float64, covariance with n - 1.
        n: reference embeddings (clips, or windows under a window rule).
        embedder: identity of the audio embedder (name, version, weight hash).
        sample_rate: Hz of the audio it was given.
        windows: "clip" (one embedding per clip) or "10s/1s" (fadtk's rule); the two are on different scales.
        loudness: protocol the clips were measured under ("delivered", "locked").
        embeddings: ``(n, d)``, needed for KAD, MAD and the real-vs-real floor, or None.
        sizes: windows of each clip ``(clips,)`` int64 under a window rule, else None.
        checkpoint: hash of the embedder's weights; read off the end of ``embedder`` when empty.
        faults: file -> what is wrong with that clip; they are in the statistics.
        rates: sample rate in Hz (as text) -> clips at it; empty where that was not kept.
    """

    name: str
    mean: Array
    cov: Array
    n: int
    embedder: str
    sample_rate: int
    windows: str = "clip"
    loudness: str = "delivered"
    embeddings: Array | None = None
    sizes: NDArray[np.int64] | None = None
    checkpoint: str = ""
    faults: dict[str, list[str]] = field(default_factory=dict)
    rates: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # an identity ends in the hash of the weights (name-version-hash)
        self.checkpoint = self.checkpoint or self.embedder.rsplit("-", 1)[-1]

    @classmethod
    def from_embeddings(
        cls, embeddings: Any, embedder: str, sample_rate: int, name: str = "reference", windows: str = "clip",
        loudness: str = "delivered", keep: bool = True,
    ) -> Reference:  # fmt: skip
        """Freeze reference embeddings ``(n, d)``; ``keep=False`` stores mean and covariance only."""
        array = embeddings64(embeddings, "reference embeddings")
        mean, cov = moments(array)
        kept = array if keep else None
        return cls(name, mean, cov, array.shape[0], embedder, sample_rate, windows, loudness, kept)

    @classmethod
    def from_windows(
        cls, clips: Sequence[Any], embedder: str, sample_rate: int, name: str = "reference", windows: str = FADTK,
        loudness: str = "delivered",
    ) -> Reference:  # fmt: skip
        """Freeze the windows of each clip, arrays ``(w_i, d)``, pooled; the floor holds out whole clips."""
        pooled = np.concatenate([array64(clip) for clip in clips])
        made = cls.from_embeddings(pooled, embedder, sample_rate, name, windows, loudness)
        made.sizes = np.array([len(clip) for clip in clips], dtype=np.int64)
        return made

    @property
    def clips(self) -> int:
        """Reference clips: n, or fewer under a window rule."""
        return self.n if self.sizes is None else len(self.sizes)

    @property
    def identity(self) -> str:
        """Name, n and a hash of the statistics: what a table prints."""
        digest = hash_of([self.frame(), np.round(self.mean, 6).tolist(), round(float(np.trace(self.cov)), 6)])
        return f"{self.name}-{self.n}-{digest[:8]}"

    def frame(self) -> dict[str, Any]:
        """What a number measured against this reference has to carry."""
        return {"name": self.name, "n": self.n, "embedder": self.embedder, "sample_rate": self.sample_rate,
                "windows": self.windows, "loudness": self.loudness}  # fmt: skip

    def check(self, embedder: str, loudness: str | None = None) -> None:
        """Refuse clips measured another way; a distance between two embedders is no distance."""
        if embedder != self.embedder:
            raise ValueError(
                f"reference {self.name} was embedded by {self.embedder}, the clips by {embedder}: build it again"
            )
        if loudness is not None and loudness != self.loudness:
            raise ValueError(
                f"reference {self.name} is at {self.loudness} loudness, the clips {loudness}: build it again"
            )

    def bandwidth(self) -> float:
        """Median distance of the reference, the kernel width of KAD."""
        return median_bandwidth(self._need("KAD"))

    def floor(self, n: int, distance: Callable[[Any, Any], float] = fad, repeats: int = 20, seed: int = 0) -> Floor:
        """Real-vs-real floor at n clips: held-out reference clips against the rest (under a window rule: lists)."""
        kept = self._need("the real-vs-real floor")
        if self.sizes is None:
            return real_floor(distance, kept, n, repeats, seed)
        return real_floor(distance, np.split(kept, np.cumsum(self.sizes)[:-1]), n, repeats, seed)

    def _need(self, what: str) -> Array:
        if self.embeddings is None:
            raise ValueError(f"reference {self.name} holds statistics only: {what} needs embeddings (keep=True)")
        return self.embeddings

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, atomically: float64 statistics, float32 embeddings, the frame as metadata."""
        from safetensors.numpy import save_file

        tensors: dict[str, NDArray[Any]] = {"mean": self.mean, "cov": self.cov}
        if self.embeddings is not None:
            tensors["embeddings"] = self.embeddings.astype(np.float32)
        if self.sizes is not None:
            tensors["sizes"] = self.sizes
        said = {**self.frame(), "checkpoint": self.checkpoint, "faults": self.faults, "rates": self.rates}
        with atomic_path(path) as temporary:
            save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, temporary,
                      metadata={"reference": json.dumps(said, sort_keys=True)})  # fmt: skip

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Reference:
        """Read what ``save`` wrote; anything else is one clear error."""
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise FileNotFoundError(f"reference {path} does not exist: give a statistics file or a folder of audio")
        try:
            with safe_open(str(path), framework="numpy") as file:
                frame = json.loads((file.metadata() or {})["reference"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}
        except (SafetensorError, KeyError, json.JSONDecodeError):
            raise ValueError(f"reference {path} is not a statistics file of this library: build it again") from None
        kept = tensors.get("embeddings")
        embeddings = None if kept is None else kept.astype(np.float64)
        return cls(mean=tensors["mean"], cov=tensors["cov"], embeddings=embeddings, sizes=tensors.get("sizes"), **frame)
