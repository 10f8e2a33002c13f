"""Log-mel <-> latents: a patch autoencoder whose straight path starts as PCA.

The design is our choice. A latent stands for a patch of ``patch`` mel frames. Encoder and decoder are each a linear
path (initialised to the principal components of the patches, so that training starts from PCA's error) plus a stack
of ConvNeXt-like blocks over the patches, which sees the neighbours of a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvBlock(nn.Module):
    """Depth-wise convolution over time, then a two-layer perceptron, added to the input: ``(B, T, W)`` both ways.

    Args:
        width: W.
        expansion: hidden width of the perceptron in units of W.
        kernel: taps of the depth-wise convolution.
        scale: initial gain of the branch.
    """

    def __init__(self, width: int, expansion: int = 2, kernel: int = 7, scale: float = 0.3) -> None:
        super().__init__()
        self.mix = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)
        self.gain = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Hidden features ``(B, T, C)``, as they came in ``(B, T, C)``, one block deeper."""
        hidden = self.norm(self.mix(x.transpose(1, 2)).transpose(1, 2))
        return x + self.gain * self.down(nn.functional.gelu(self.up(hidden)))


class MelAutoencoder(nn.Module):
    """Log-mels ``(B, n_mels, T)`` <-> latents ``(B, T / patch, D)``.

    Args:
        n_mels: mel bins.
        patch: mel frames of one latent.
        latent_dim: D.
        width: width of the blocks.
        encoder_depth: blocks of the encoder.
        decoder_depth: blocks of the decoder.
        extra: channels a frame that the decoder hands to the vocoder beside the mel.
    """

    mel_mean: Tensor
    mel_scale: Tensor
    centre: Tensor
    whiten: Tensor
    colour: Tensor

    def __init__(
        self,
        n_mels: int = 128,
        patch: int = 12,
        latent_dim: int = 64,
        width: int = 288,
        encoder_depth: int = 2,
        decoder_depth: int = 4,
        extra: int = 16,
    ) -> None:
        super().__init__()
        self.n_mels, self.patch, self.latent_dim, self.extra = n_mels, patch, latent_dim, extra
        size = n_mels * patch
        self.register_buffer("mel_mean", torch.zeros(n_mels))
        self.register_buffer("mel_scale", torch.ones(()))
        # latent = whiten @ (raw - centre): exactly decorrelated, unit variance over the training clips
        self.register_buffer("centre", torch.zeros(latent_dim))
        self.register_buffer("whiten", torch.eye(latent_dim))
        self.register_buffer("colour", torch.eye(latent_dim))
        self.encode_linear = nn.Linear(size, latent_dim, bias=False)
        self.encode_in = nn.Linear(size, width)
        self.encode_blocks = nn.Sequential(*(ConvBlock(width) for _ in range(encoder_depth)))
        self.encode_out = nn.Linear(width, latent_dim)
        self.decode_linear = nn.Linear(latent_dim, size)
        self.decode_in = nn.Linear(latent_dim, width)
        self.decode_blocks = nn.Sequential(*(ConvBlock(width) for _ in range(decoder_depth)))
        self.decode_out = nn.Linear(width, (n_mels + extra) * patch)
        for layer in (self.encode_out, self.decode_out):
            nn.init.zeros_(layer.bias)
            nn.init.normal_(layer.weight, std=0.01)

    def patches(self, mel: Tensor) -> Tensor:
        """Standardised log-mels ``(B, n_mels, T)`` as rows ``(B, T / patch, patch * n_mels)``."""
        if mel.shape[2] % self.patch:
            raise ValueError(f"mel has {mel.shape[2]} frames: give a multiple of the codec's patch, {self.patch}")
        frames = (mel.transpose(1, 2) - self.mel_mean) / self.mel_scale
        return frames.reshape(mel.shape[0], -1, self.patch * self.n_mels)

    def encode_raw(self, mel: Tensor) -> Tensor:
        """Latents before whitening."""
        rows = self.patches(mel)
        with torch.autocast(rows.device.type, enabled=False):
            straight = self.encode_linear(rows)
        return straight + self.encode_out(self.encode_blocks(self.encode_in(rows)))

    def encode(self, mel: Tensor) -> Tensor:
        """Latents ``(B, T / patch, D)`` of log-mels ``(B, n_mels, T)``."""
        raw = self.encode_raw(mel)
        with torch.autocast(raw.device.type, enabled=False):
            return (raw.float() - self.centre) @ self.whiten.T

    def decode(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mels ``(B, n_mels, T)`` and the vocoder's extra channels ``(B, extra, T)`` of latents."""
        # under mixed precision the straight path stays exact: it carries the level
        with torch.autocast(latent.device.type, enabled=False):
            raw = latent.float() @ self.colour.T + self.centre
            straight = self.decode_linear(raw)
        batch, length, _ = raw.shape
        rich = self.decode_out(self.decode_blocks(self.decode_in(raw)))
        rich = rich.reshape(batch, length * self.patch, self.n_mels + self.extra)
        straight = straight.reshape(batch, length * self.patch, self.n_mels)
        mel = (straight + rich[..., : self.n_mels]) * self.mel_scale + self.mel_mean
        return mel.transpose(1, 2), rich[..., self.n_mels :].transpose(1, 2)

    @torch.no_grad()
    def set_whitening(self, mean: Tensor, covariance: Tensor, floor: float = 1e-4) -> None:
        """Make latents zero-mean, unit-variance and uncorrelated given the statistics of the raw ones.

        The symmetric root is taken (ZCA): of all whitenings it moves the channels least.
        """
        value, vector = torch.linalg.eigh(covariance.double())
        root = value.clamp(min=floor).sqrt()
        self.centre.copy_(mean)
        self.whiten.copy_((vector / root) @ vector.T)
        self.colour.copy_((vector * root) @ vector.T)

    @torch.no_grad()
    def start_from_pca(self, mel: Tensor) -> None:
        """Set the standardisation and the linear paths from log-mels ``(N, n_mels, T)``: PCA of the patches."""
        self.mel_mean.copy_(mel.mean(dim=(0, 2)))
        self.mel_scale.copy_((mel - self.mel_mean[:, None]).std())
        rows = self.patches(mel).reshape(-1, self.patch * self.n_mels)
        mean = rows.mean(0)
        covariance = torch.zeros(rows.shape[1], rows.shape[1])
        for part in (rows - mean).split(8192):
            covariance += part.T @ part / len(rows)
        value, vector = torch.linalg.eigh(covariance.double())
        vector = vector.flip(1)[:, : self.latent_dim].float()
        root = value.flip(0)[: self.latent_dim].float().sqrt()
        # a random rotation gives every channel the same share of the variance
        turn = torch.linalg.qr(
            torch.randn(self.latent_dim, self.latent_dim, generator=torch.Generator().manual_seed(0))
        )[0]
        self.encode_linear.weight.copy_(turn @ (vector / root).T)
        self.encode_out.bias.copy_(-self.encode_linear.weight @ mean)
        self.decode_linear.weight.copy_((vector * root) @ turn.T)
        self.decode_linear.bias.copy_(mean)
