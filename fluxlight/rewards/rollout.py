"""Rewards of sampled latents, as online stages ask for them: by listening to what is decoded, or in latent space."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from fluxlight.codec.base import Codec
from fluxlight.postprocess import LockedLoudness
from fluxlight.rewards.base import Reward
from fluxlight.types import Clip, PromptBatch


class RolloutReward(ABC):
    """A scalar reward of latents for their prompts; higher is better.

    Attributes:
        identity: name, version and hash of all that its numbers depend on.
    """

    identity: str

    @abstractmethod
    def score(self, latents: Tensor, prompts: PromptBatch) -> Tensor:
        """Rewards ``(B,)``, float32 on the CPU, of latents ``(B, L, D)`` in codec units; NaN for one without."""

    def to(self, device: torch.device) -> None:
        """Bring networks to ``device``; without any, nothing."""
        return None

    def check(self, identities: Mapping[str, str]) -> None:
        """Refuse a store whose latents or texts are others than it knows.

        Args:
            identities: of codec and encoders, as a store has them.
        """
        return None


class DecodedReward(RolloutReward):
    """A reward of audio: latents are decoded and brought to one loudness, as wherever clips are compared.

    Args:
        codec: latents -> audio.
        reward: the one that drives, never one that judges.
        lufs: loudness of what it hears (-23: that of the tables).
    """

    def __init__(self, codec: Codec, reward: Reward, lufs: float = -23.0) -> None:
        self.codec, self.reward, self.level = codec, reward, LockedLoudness(lufs)
        self.identity = f"{reward.identity} on {codec.identity} at {lufs:g} LUFS"

    def to(self, device: torch.device) -> None:
        """Bring codec and reward there."""
        self.codec.to(device)
        self.reward.to(device)

    def check(self, identities: Mapping[str, str]) -> None:
        """Refuse latents of another codec."""
        if (made := identities.get("codec")) not in (None, self.codec.identity):
            raise ValueError(
                f"model.reward decodes with {self.codec.identity}, the store was encoded by {made}: give that codec"
            )

    @torch.no_grad()
    def score(self, latents: Tensor, prompts: PromptBatch) -> Tensor:
        """See `RolloutReward.score`; a clip that cannot be decoded or judged has none."""
        found = torch.full((len(latents),), math.nan)
        fine = torch.isfinite(latents).flatten(1).all(1)
        waves = self.codec.decode(torch.where(fine[:, None, None], latents, 0)).float().cpu()
        for k in (fine.cpu() & torch.isfinite(waves).all(1)).nonzero().flatten().tolist():
            clip = self.level(Clip(prompts.id[k], waves[k], self.codec.sample_rate, prompts.prompt[k]))
            try:
                found[k] = self.reward.score(clip.audio[None], clip.sample_rate, [clip.prompt])[0].cpu()
            except (RuntimeError, ValueError):
                continue
        return found
