"""What a step of post-processing is, and which clips pass through one untouched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fluxlight.types import Clip

SHORTEST_SECONDS = 0.4
"""BS.1770 measures blocks of 400 ms; a shorter clip has no loudness (FACTS section 4)."""


class PostProcess(Protocol):
    """A step of post-processing: takes a clip, returns a new one with a note."""

    def __call__(self, clip: Clip) -> Clip:
        """The clip, treated; the one given is not changed."""


@runtime_checkable
class Batched(Protocol):
    """A step that is faster on many clips at once."""

    def many(self, clips: Sequence[Clip]) -> list[Clip]:
        """Clips, treated, in their order; equal to one after the other, to float tolerance."""


def process(clip: Clip, steps: Sequence[PostProcess]) -> Clip:
    """Run ``steps`` in order on a clip."""
    for step in steps:
        clip = step(clip)
    return clip


def process_many(clips: Sequence[Clip], steps: Sequence[PostProcess]) -> list[Clip]:
    """Run ``steps`` in order on clips, together where a step can; equal to `process` on each, to float tolerance."""
    done = list(clips)
    for step in steps:
        done = step.many(done) if isinstance(step, Batched) else [step(clip) for clip in done]
    return done


def why_not(clip: Clip) -> str:
    """Why a clip cannot be treated, or an empty string; audio that is not mono ``(N,)`` is an error."""
    if clip.audio.ndim != 1:
        raise ValueError(f"clip {clip.id} has audio of shape {tuple(clip.audio.shape)}: give mono audio (N,)")
    if clip.audio.numel() < SHORTEST_SECONDS * clip.sample_rate:
        return f"shorter than {SHORTEST_SECONDS} s"
    if not bool(torch.isfinite(clip.audio).all()):
        return "not finite"
    if not bool(clip.audio.abs().max() > 0):
        return "silent"
    return ""


def noted(clip: Clip, audio: Tensor, note: str) -> Clip:
    """The clip with new samples ``(N,)`` and one more note."""
    return replace(clip, audio=audio, notes=[*clip.notes, note])
