"""Take: what became of a prompt."""

from __future__ import annotations

from dataclasses import dataclass, field

from fluxlight.types import Clip


@dataclass
class Take:
    """What became of a prompt.

    Attributes:
        clip: the clip, post-processed; its notes say what was done.
        seed: noise seed of the clip.
        seeds: noise seeds of all candidates, of which it is the best.
        scores: rewards of the candidates at -23 LUFS, -inf where one was not finite; empty without a reward.
        error: why there is no usable clip, or "".
    """

    clip: Clip
    seed: int
    seeds: list[int]
    scores: list[float] = field(default_factory=list)
    error: str = ""
