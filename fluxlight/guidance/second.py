"""Second: another checkpoint that takes part in sampling, as a setting: a bundle and what becomes of two velocities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from fluxlight.bundle import Which, load_bundle, read_recipe
from fluxlight.guidance.checkpoints import Average, Crossover
from fluxlight.model import FluxModel
from fluxlight.types import Velocity


@dataclass(frozen=True)
class Second:
    """Another checkpoint over the same latents (the published code offers all three ways).

    Attributes:
        bundle: its folder.
        weights: "raw" or "ema".
        combine: "crossover": the model, then from time ``at`` on this one; "reverse": the other way round;
            "average": the weighted mean of both velocities.
        at: time of the change, t = 1 being noise.
        weight: share of the model itself in the average.
        hash: of its weights, filled in when left out: results carry it.
    """

    bundle: str
    weights: Which = "raw"
    combine: Literal["crossover", "reverse", "average"] = "crossover"
    at: float = 0.5
    weight: float = 0.5
    hash: str | None = None

    def __post_init__(self) -> None:
        if self.combine not in ("crossover", "reverse", "average"):
            raise ValueError(f"second.combine is {self.combine!r}: use crossover, reverse or average")
        if not 0 <= self.at <= 1:
            raise ValueError(f"second.at is {self.at}: it is a time, 0 (data) to 1 (noise)")
        found = read_recipe(self.bundle)["hash"].get(self.weights)
        if found is None:
            raise ValueError(f"bundle {self.bundle} has no {self.weights} weights: set second.weights to the other")
        if self.hash not in (None, found):
            raise ValueError(f"second.hash is {self.hash}, bundle {self.bundle} has {found}: it has been replaced")
        object.__setattr__(self, "hash", found)

    def load(self, device: torch.device) -> FluxModel:
        """The model of the bundle on ``device``, in eval mode; the last one loaded is kept for the next batch."""
        return _load(self.bundle, self.weights, str(self.hash), device)

    def combined(self, first: Velocity, second: Velocity) -> Velocity:
        """One velocity of the model's, ``first``, and this checkpoint's."""
        if self.combine == "average":
            return Average(first, second, self.weight)
        pair = (first, second) if self.combine == "crossover" else (second, first)
        return Crossover(*pair, at=self.at)


@lru_cache(maxsize=1)
def _load(bundle: str, weights: Which, _hash: str, device: torch.device) -> FluxModel:
    return load_bundle(bundle, weights).to(device).requires_grad_(False)
