"""Spread: how wide latents lie against the training data, which has mean 0 and standard deviation 1 in every channel.

Guidance widens latents and training on blurred clips narrows them; FAD follows either, so every rendering says it.
Sums of squares of two pools add up, so the spread of a pool is made of those of its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PARTS = 3
"""Parts of a clip's time that are told apart: a sampler may fade towards the end (our choice)."""
DIGITS = 5
"""Significant digits kept in a row: the last ones depend on the machine."""


@dataclass(frozen=True)
class Spread:
    """Spread of normalised latents.

    Attributes:
        rms: root mean square over clips, time and channels; 1 for the training data.
        channels: root mean square of each channel ``(D,)``; all 1 for the training data.
        means: mean of each channel ``(D,)``; all 0 for the training data.
        thirds: root mean square of each third of the time ``(3,)``.
        clips: how many clips it is of.
    """

    rms: float
    channels: tuple[float, ...]
    means: tuple[float, ...]
    thirds: tuple[float, ...]
    clips: int = 1

    @property
    def distance(self) -> float:
        """2-Wasserstein distance to the data's normal law, both diagonal, per channel: sqrt(mean(m^2 + (s - 1)^2)).

        In standard deviations of the data; 0 for the data's own first two moments (Dowson and Landau 1982).
        """
        mean, square = np.array(self.means), np.square(self.channels)
        deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
        return float(np.sqrt((mean**2 + (deviation - 1.0) ** 2).mean()))

    def plain(self) -> dict[str, Any]:
        """As a row of a file holds it."""
        return {"rms": _short(self.rms), "distance": _short(self.distance), "thirds": [_short(v) for v in self.thirds],
                "channels": [_short(v) for v in self.channels], "means": [_short(v) for v in self.means],
                "clips": self.clips}  # fmt: skip

    def line(self) -> str:
        """For a reader: ``rms 0.86 of the data's (thirds 0.90 0.86 0.82), distance 0.21``."""
        thirds = " ".join(f"{value:.2f}" for value in self.thirds)
        return f"rms {self.rms:.2f} of the data's (thirds {thirds}), distance {self.distance:.2f}"


def spread_of(latents: Any) -> Spread:
    """Spread of normalised latents ``(B, L, D)``, B and L at least 1."""
    x = np.asarray(latents, dtype=np.float64)
    if x.ndim != 3 or not x.size:
        raise ValueError(f"spread: latents have shape {x.shape}, (clips, length, channels) is needed")
    square = x**2
    thirds = [float(np.sqrt(part.mean())) for part in np.array_split(square, PARTS, axis=1) if part.size]
    channels, means = np.sqrt(square.mean(axis=(0, 1))), x.mean(axis=(0, 1))
    return Spread(float(np.sqrt(square.mean())), tuple(channels.tolist()), tuple(means.tolist()), tuple(thirds), len(x))


def pooled(rows: Sequence[Mapping[str, Any] | None]) -> Spread | None:
    """Spread of all clips of ``rows`` (each `Spread.plain`, of clips of one length); None where a row has none."""
    known = [row for row in rows if row]
    if not known or len(known) < len(rows) or len({len(row["channels"]) for row in known}) > 1:
        return None
    weights = np.array([row["clips"] for row in known], dtype=np.float64)

    def square(name: str) -> Any:
        return np.sqrt(np.average(np.square([row[name] for row in known]), axis=0, weights=weights))

    means = np.average([row["means"] for row in known], axis=0, weights=weights)
    return Spread(
        float(square("rms")), tuple(square("channels").tolist()), tuple(means.tolist()),
        tuple(square("thirds").tolist()), int(weights.sum()),
    )  # fmt: skip


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") + 0.0
