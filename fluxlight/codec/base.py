"""The one interface between audio and latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Codec(nn.Module):
    """Audio ``(B, N)`` <-> latents ``(B, L, D)``.

    A codec is frozen and deterministic: the same audio gives the same mean and standard deviation, the same
    latent gives the same audio. It belongs to data preparation and callbacks, never to a training stage.

    Attributes:
        sample_rate: Hz of the audio both ways.
        latent_dim: D, channels of a latent.
        latent_len: L, latents of one clip.
        clip_samples: N, samples of one clip.
        identity: name, version and hash of the weights; every result made with them carries it.
        statistics: mean and standard deviation of the latents ``(D,)`` each, as published with the codec; None: a
            store takes those of its own clips.
    """

    sample_rate: int
    latent_dim: int
    latent_len: int
    clip_samples: int
    identity: str
    statistics: tuple[Tensor, Tensor] | None = None

    def encode(self, audio: Tensor) -> tuple[Tensor, Tensor | None]:
        """Encode audio.

        Args:
            audio: ``(B, N)`` float, nominally in [-1, 1], at ``sample_rate``.

        Returns:
            Mean ``(B, L, D)`` and standard deviation ``(B, L, D)``, or None where the encoder is deterministic.
        """
        raise NotImplementedError

    def decode(self, latent: Tensor) -> Tensor:
        """Decode latents ``(B, L, D)`` (codec units, not normalised) to audio ``(B, clip_samples)``."""
        raise NotImplementedError

    def fit_length(self, audio: Tensor) -> Tensor:
        """Audio ``(B, n)`` with zeros appended or samples cut so that n = ``clip_samples``; checks shape and values."""
        if audio.ndim != 2:
            raise ValueError(f"audio has shape {tuple(audio.shape)}: give (batch, samples)")
        if not bool(torch.isfinite(audio).all()):
            raise ValueError("audio holds NaN or infinite samples: drop the clip or clean it before encoding")
        missing = self.clip_samples - audio.shape[1]
        return nn.functional.pad(audio, (0, missing)) if missing > 0 else audio[:, : self.clip_samples]

    def check_latent(self, latent: Tensor) -> Tensor:
        """The latent as float32; one clear error for a wrong shape or values that are not finite."""
        if latent.ndim != 3 or latent.shape[1:] != (self.latent_len, self.latent_dim):
            raise ValueError(
                f"latent has shape {tuple(latent.shape)}: {self.identity} decodes "
                f"(batch, {self.latent_len}, {self.latent_dim})"
            )
        if not bool(torch.isfinite(latent).all()):
            raise ValueError("latent holds NaN or infinite values: the sampler that made it diverged")
        return latent.float()
