"""What a reward is: a callable judge of (audio, prompt) with an identity that every result carries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

SHORTEST = 1.0
"""Seconds of audio below which a reward refuses to answer (our choice: one bar of fast music, two STFT windows)."""

LONGEST = 10.0
"""Seconds a reward listens to: the deterministic centre crop of longer audio (FACTS section 5: the released tables)."""


def check_audio(audio: Tensor, sample_rate: int) -> Tensor:
    """Audio as the judges take it: finite float32, mono, between ``SHORTEST`` and ``LONGEST`` seconds.

    Args:
        audio: ``(B, N)`` or ``(N,)`` samples, nominally in [-1, 1].
        sample_rate: Hz.

    Returns:
        ``(B, min(N, 10 s))`` float32, the centre of the input.

    Raises:
        ValueError: wrong shape, NaN or infinite samples, less than ``SHORTEST`` seconds.
    """
    if audio.ndim == 1:
        audio = audio.unsqueeze(0)
    if audio.ndim != 2:
        raise ValueError(f"audio has shape {tuple(audio.shape)}, expected mono (B, N): average the channels first")
    if sample_rate <= 0:
        raise ValueError(f"sample_rate is {sample_rate}, expected a positive number of Hz")
    samples = audio.shape[1]
    if samples < SHORTEST * sample_rate:
        raise ValueError(
            f"audio is {samples} samples ({samples / sample_rate:.2f} s), a reward needs at least {SHORTEST:g} s: "
            "pad it or leave the clip out"
        )
    bad = ~torch.isfinite(audio).all(dim=1)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise ValueError(f"audio row {row} holds NaN or infinite samples: a reward cannot score it, drop the clip")
    longest = int(LONGEST * sample_rate)
    start = max(0, (samples - longest) // 2)
    return audio[:, start : start + longest].float()


class Reward(nn.Module, ABC):
    """A scalar judge of how much listeners would prefer a clip for a prompt; higher is better, unbounded.

    Attributes:
        identity: name, version and hash of the weights, e.g. ``reward-a-v1-1a2b3c4d``.
        clap_identity: the CLAP it stands on, whose embeddings `score_heard` takes; "" where there is none.
    """

    identity: str
    clap_identity: str = ""

    @abstractmethod
    def score(self, audio: Tensor, sample_rate: int, prompts: Sequence[str]) -> Tensor:
        """Score clips against their prompts, without gradient.

        Args:
            audio: ``(B, N)`` mono samples.
            sample_rate: Hz.
            prompts: B prompts.

        Returns:
            ``(B,)`` finite scores, float32.
        """

    def score_heard(
        self, audio: Tensor, sample_rate: int, prompts: Sequence[str], heard: Tensor, text: Tensor | None = None
    ) -> Tensor:
        """`score`, where embeddings of the CLAP named by ``clap_identity`` are at hand.

        Args:
            audio: ``(B, N)`` mono samples.
            sample_rate: Hz.
            prompts: B prompts.
            heard: audio embeddings ``(B, d)``.
            text: text embeddings of the prompts ``(B, d)``, zeros for an empty one; None embeds them.

        Returns:
            ``(B,)`` scores. A reward without a CLAP listens for itself.
        """
        return self.score(audio, sample_rate, prompts)

    @staticmethod
    def check_prompts(prompts: Sequence[str], count: int) -> list[str]:
        """``prompts`` as a list, refused unless there is one per clip."""
        if isinstance(prompts, str):
            raise ValueError("prompts is one string, expected a list with one prompt per clip")
        if len(prompts) != count:
            raise ValueError(f"{len(prompts)} prompts for {count} clips: give one prompt per clip")
        return list(prompts)
