"""The two networks of the embedded codec on one front end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fluxlight.codec.autoencoder import MelAutoencoder
from fluxlight.codec.mel import Spectrum
from fluxlight.codec.vocoder import Vocoder


class CodecNetwork(nn.Module):
    """Audio -> log-mel -> latents -> log-mel -> spectrum -> audio.

    Args:
        latent_dim: channels of a latent.
        patch: mel frames of a latent; at a hop of 512 samples a patch of 12 is 7.2 latents a second.
        width: width of the mel autoencoder.
        encoder_depth: its encoder's blocks.
        decoder_depth: its decoder's blocks.
        extra: channels a frame from the mel decoder to the vocoder.
        vocoder_width: width of the vocoder.
        vocoder_depth: its blocks.
        phase_bins: bins whose phase advance is predicted (512: up to 11 kHz).
    """

    def __init__(
        self,
        latent_dim: int = 64,
        patch: int = 12,
        width: int = 288,
        encoder_depth: int = 2,
        decoder_depth: int = 4,
        extra: int = 16,
        vocoder_width: int = 192,
        vocoder_depth: int = 5,
        phase_bins: int = 512,
    ) -> None:
        super().__init__()
        self.settings = dict(
            latent_dim=latent_dim, patch=patch, width=width, encoder_depth=encoder_depth, decoder_depth=decoder_depth,
            extra=extra, vocoder_width=vocoder_width, vocoder_depth=vocoder_depth, phase_bins=phase_bins,
        )  # fmt: skip
        self.spectrum = Spectrum()
        self.autoencoder = MelAutoencoder(
            self.spectrum.n_mels, patch, latent_dim, width, encoder_depth, decoder_depth, extra
        )
        self.vocoder = Vocoder(self.spectrum, extra, vocoder_width, vocoder_depth, phase_bins)

    def start_from(self, mel: Tensor) -> None:
        """Set standardisation and PCA from log-mels ``(N, n_mels, T)``."""
        self.autoencoder.start_from_pca(mel)
        self.vocoder.mel_mean.copy_(self.autoencoder.mel_mean)
        self.vocoder.mel_scale.copy_(self.autoencoder.mel_scale)

    def encode(self, audio: Tensor) -> Tensor:
        """Latents ``(B, N / (hop * patch), D)`` of audio ``(B, N)``."""
        return self.autoencoder.encode(self.spectrum.mel(audio))

    def decode(self, latent: Tensor) -> Tensor:
        """Audio ``(B, L * patch * hop)`` of latents ``(B, L, D)``."""
        return self.vocoder.audio(*self.autoencoder.decode(latent))

    def decode_each(self, latent: Tensor) -> Tensor:
        """The same, each clip to the last bit as if it were alone.

        What sums goes through the networks one by one; phases, whose hundreds of short steps sum over nothing, are
        integrated for all at once.
        """
        steps = [self.vocoder.steps(*self.autoencoder.decode(one[None])) for one in latent]
        magnitude, vectors = (torch.cat(parts) for parts in zip(*steps, strict=True))
        phase = self.vocoder.integrate(magnitude, vectors)
        return torch.cat([self.vocoder.polish(*pair) for pair in zip(magnitude[:, None], phase[:, None], strict=True)])
