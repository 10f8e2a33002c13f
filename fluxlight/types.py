"""The nouns that travel between rooms: batches of training data, prompts, clips and candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
"""x ``(B, L, D)``, normalised, and t in [0, 1] (1 is noise) -> dx/dt ``(B, L, D)``."""


@dataclass
class Condition:
    """Text condition of a batch, as the backbone takes it.

    Attributes:
        text: token features ``(B, T, E)``; rows past the end of a text are zero in the embedded world and
            the encoder's own padding features in the published one (FACTS: padding is not masked upstream).
        text_c: one global text embedding per clip ``(B, C)`` (CLAP text).
    """

    text: Tensor
    text_c: Tensor


@dataclass
class Batch:
    """A batch of training clips: a distribution over latents, its text and its reward.

    Attributes:
        mean: latent mean ``(B, L, D)``, codec units (not normalised).
        std: latent standard deviation ``(B, L, D)``, or None for a deterministic codec.
        text: token features ``(B, T, E)``.
        text_c: global text embedding ``(B, C)``.
        score: reward of each clip ``(B,)``, unbounded, or None where the data has none.
        index: row of each clip in its store ``(B,)``, int64.
    """

    mean: Tensor
    std: Tensor | None
    text: Tensor
    text_c: Tensor
    score: Tensor | None
    index: Tensor


@dataclass
class PairBatch:
    """Preference pairs of one prompt each: ``winner`` and ``loser`` share text row by row."""

    winner: Batch
    loser: Batch


@dataclass
class Rewarded:
    """Clips in latent space with the reward that a reward of audio gave them.

    Attributes:
        latents: ``(B, L, D)``, codec units.
        std: of a latent's posterior ``(B, L, D)``, zeros for sampled ones, or None for a deterministic codec.
        text_c: global text embedding ``(B, C)``.
        reward: ``(B,)``.
        weight: of each clip for each head of a bag ``(B, heads)``.
        caption: number of its caption ``(B,)``.
        sampled: True for a clip that a model drew ``(B,)``.
    """

    latents: Tensor
    std: Tensor | None
    text_c: Tensor
    reward: Tensor
    weight: Tensor
    caption: Tensor
    sampled: Tensor


@dataclass
class PromptBatch:
    """Prompts to be rendered.

    Attributes:
        id: prompt ids, length B.
        prompt: prompt texts, length B (without prefix or suffix).
        text: token features ``(B, T, E)``.
        text_c: global text embedding ``(B, C)``.
        seed: noise seed of each clip ``(B,)`` int64 = seed base + position of the prompt in the full list.
    """

    id: list[str]
    prompt: list[str]
    text: Tensor
    text_c: Tensor
    seed: Tensor


@dataclass
class Clip:
    """One mono clip of audio.

    Attributes:
        id: prompt or file id.
        audio: samples ``(N,)`` float32, nominally in [-1, 1].
        sample_rate: Hz.
        prompt: the text it was made from, "" when unknown.
        notes: what post-processing did or refused to do, one line each.
    """

    id: str
    audio: Tensor
    sample_rate: int
    prompt: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class Candidate:
    """A row of candidates.jsonl: one rendered clip and where it came from.

    A row that failed keeps ``error`` and has an empty ``audio``.
    """

    id: str
    prompt: str
    seed: int
    checkpoint: str
    audio: str
    latent: str
    error: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
