"""The published MMAudio VAE: log-mels <-> latents at half the frame rate (FACTS section 8, names as published).

Three levels of (1, 2, 4) x width channels, one step of 2 in time between the first two, and block, attention, block
in the middle; which layer stands where is read off the published names (`encoder.down.1.block.0.conv1.weight` ...).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fluxlight.codec.magnitude import MPAttention, MPBlock, MPConv, MPDown, MPUp, mp_silu

WIDTHS = (1, 2, 4)
"""Channels of the levels in units of the width."""

LOG_VARIANCE = (-30.0, 20.0)
"""Bounds of the encoder's log-variance."""

SIZES: dict[str, dict[str, int]] = {
    "16k": {"n_mels": 80, "latent_dim": 20, "width": 384},
    "44k": {"n_mels": 128, "latent_dim": 40, "width": 512},
}
"""Of the two published files, v1-16.pth and v1-44.pth."""


class Level(nn.Module):
    """Residual blocks of one width, ``(B, inputs, T)`` -> ``(B, outputs, T)``, and where asked a step in time.

    Args:
        blocks: how many.
        inputs: channels in.
        outputs: channels out.
        downsample: end with half the length.
        upsample: end with twice the length.
    """

    def __init__(
        self, blocks: int, inputs: int, outputs: int, downsample: bool = False, upsample: bool = False
    ) -> None:
        super().__init__()
        self.block = nn.Sequential(MPBlock(inputs, outputs), *(MPBlock(outputs, outputs) for _ in range(blocks - 1)))
        self.downsample = MPDown(outputs) if downsample else nn.Identity()
        self.upsample = MPUp(outputs) if upsample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` -> ``(B, C_out, T_out)``."""
        return self.upsample(self.downsample(self.block(x)))


class Middle(nn.Module):
    """Block, attention, block: ``(B, C, T)`` both ways.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = MPBlock(channels, channels)
        self.attn_1 = MPAttention(channels)
        self.block_2 = MPBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` -> ``(B, C, T)``."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """Standardised mels ``(B, n_mels, T)`` -> means and log-variances ``(B, 2 D, T // 2)``.

    Args:
        n_mels: mel bins.
        latent_dim: D.
        width: channels of the first level.
    """

    def __init__(self, n_mels: int, latent_dim: int, width: int) -> None:
        super().__init__()
        first, second, third = (width * factor for factor in WIDTHS)
        self.learnable_gain = nn.Parameter(torch.zeros(()))
        self.conv_in = MPConv(n_mels, first, 3)
        self.down = nn.Sequential(
            Level(2, first, first, downsample=True), Level(2, first, second), Level(2, second, third)
        )
        self.mid = Middle(third)
        self.conv_out = MPConv(third, 2 * latent_dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Mel ``(B, M, T)`` -> moments of the latent ``(B, 2 D, L)``."""
        x = self.mid(self.down(self.conv_in(x)))
        return self.conv_out(mp_silu(x)) * (1.0 + self.learnable_gain)


class Decoder(nn.Module):
    """Latents ``(B, D, L)`` -> standardised mels ``(B, n_mels, 2 L)``.

    Args:
        n_mels: mel bins.
        latent_dim: D.
        width: channels of the last level.
    """

    def __init__(self, n_mels: int, latent_dim: int, width: int) -> None:
        super().__init__()
        first, second, third = (width * factor for factor in WIDTHS)
        self.learnable_gain = nn.Parameter(torch.zeros(()))
        self.conv_in = MPConv(latent_dim, third, 3)
        self.mid = Middle(third)
        # numbered like the encoder's levels, so the last comes first
        self.up = nn.ModuleList(
            (Level(3, second, first), Level(3, third, second, upsample=True), Level(3, third, third))
        )
        self.conv_out = MPConv(first, n_mels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Latent ``(B, D, L)`` -> mel ``(B, M, T)``."""
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(mp_silu(x)) * (1.0 + self.learnable_gain)


class MelVAE(nn.Module):
    """Log-mels ``(B, n_mels, T)`` <-> latents ``(B, D, T // 2)``.

    Args:
        n_mels: mel bins.
        latent_dim: D.
        width: channels of the outer level.
    """

    data_mean: Tensor
    data_std: Tensor

    def __init__(self, n_mels: int = 128, latent_dim: int = 40, width: int = 512) -> None:
        super().__init__()
        self.n_mels, self.latent_dim, self.width = n_mels, latent_dim, width
        self.register_buffer("data_mean", torch.zeros(1, n_mels, 1))
        self.register_buffer("data_std", torch.ones(1, n_mels, 1))
        self.encoder = Encoder(n_mels, latent_dim, width)
        self.decoder = Decoder(n_mels, latent_dim, width)

    @staticmethod
    def sizes_of(state: Mapping[str, Tensor]) -> dict[str, int]:
        """Arguments of the VAE a state dict belongs to; empty where it belongs to none."""
        inlet, latent = state.get("encoder.conv_in.weight"), state.get("decoder.conv_in.weight")
        if inlet is None or latent is None or inlet.ndim != 3 or latent.ndim != 3:
            return {}
        return {"n_mels": inlet.shape[1], "latent_dim": latent.shape[1], "width": inlet.shape[0]}

    def fold(self) -> None:
        """Normalise the weights of all convolutions for good: for a VAE that is not trained on."""
        for module in self.modules():
            if isinstance(module, MPConv):
                module.fold()

    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, each ``(B, D, T // 2)``, of log-mels ``(B, n_mels, T)``."""
        mean, log_variance = self.encoder((mel - self.data_mean) / self.data_std).chunk(2, 1)
        return mean, torch.exp(0.5 * log_variance.clamp(*LOG_VARIANCE))

    def decode(self, latent: Tensor) -> Tensor:
        """Log-mels ``(B, n_mels, 2 L)`` of latents ``(B, D, L)``."""
        return self.decoder(latent) * self.data_std + self.data_mean
