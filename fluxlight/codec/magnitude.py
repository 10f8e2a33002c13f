"""Magnitude-preserving layers over time (EDM2, arXiv 2312.02696; constants: FACTS section 8).

Every layer keeps the expected size of its input at 1: weights and activations are normalised, sums are weighted.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-4
"""Added to every norm that is divided by."""

SILU_SIZE = 0.596
"""Root mean square of SiLU of a unit normal."""

BRANCH = 0.3
"""Share t of the branch in the sums of blocks."""

LIMIT = 256.0
"""Activations after a block are clamped to +-LIMIT."""


def pixel_norm(x: Tensor, dim: int = 1) -> Tensor:
    """``x`` over its root mean square along ``dim`` (the channels)."""
    return x / (EPS + x.square().mean(dim, keepdim=True).sqrt())


def mp_silu(x: Tensor) -> Tensor:
    """SiLU of unit size."""
    return functional.silu(x) / SILU_SIZE


def mp_sum(a: Tensor, b: Tensor, t: float = BRANCH) -> Tensor:
    """Weighted sum of two uncorrelated signals of unit size, of unit size."""
    return torch.lerp(a, b, t) / ((1.0 - t) ** 2 + t**2) ** 0.5


def unit_weight(weight: Tensor) -> Tensor:
    """A convolution's weight ``(out, in, k)`` normalised per output channel, so that it keeps the input's size."""
    size = weight.square().mean((1, 2), keepdim=True).sqrt()
    return weight / (EPS + size) / (weight.shape[1] * weight.shape[2]) ** 0.5


class MPConv(nn.Module):
    """A convolution over time without bias whose weight is used normalised: ``(B, in, T)`` -> ``(B, out, T)``.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: taps, odd; the length is kept.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel))
        self.folded = False

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C_in, T)`` -> ``(B, C_out, T)``."""
        weight = self.weight if self.folded else unit_weight(self.weight)
        return functional.conv1d(x, weight, padding=weight.shape[2] // 2)

    @torch.no_grad()
    def fold(self) -> None:
        """Keep the normalised weight in place of the raw one: frozen weights are normalised once, not at each call."""
        if not self.folded:
            self.weight.copy_(unit_weight(self.weight))
            self.folded = True


class MPBlock(nn.Module):
    """Residual block ``(B, in, T)`` -> ``(B, out, T)``.

    Args:
        inputs: channels in.
        outputs: channels out; where they differ a 1x1 convolution takes the normalised input across.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = MPConv(inputs, outputs, 3)
        self.conv2 = MPConv(outputs, outputs, 3)
        self.nin_shortcut = MPConv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` -> ``(B, C_out, T)``."""
        x = pixel_norm(x)
        branch = self.conv2(mp_silu(self.conv1(mp_silu(x))))
        return mp_sum(self.nin_shortcut(x), branch).clamp(-LIMIT, LIMIT)


class MPAttention(nn.Module):
    """Attention of one head over time, ``(B, C, T)`` both ways; queries, keys and values are normalised.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = MPConv(channels, 3 * channels, 1)
        self.proj_out = MPConv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` -> ``(B, C, T)``."""
        # the published layout of qkv is (head, channel, which of the three)
        q, k, v = pixel_norm(self.qkv(x).unflatten(1, (x.shape[1], 3))).transpose(1, 3).unbind(2)
        mixed = functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return mp_sum(x, self.proj_out(mixed.transpose(1, 2))).clamp(-LIMIT, LIMIT)


class MPDown(nn.Module):
    """Half the length: 1x1 convolution, mean of two neighbours (an odd last frame is dropped), 1x1 convolution.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = MPConv(channels, channels, 1)
        self.conv2 = MPConv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` -> ``(B, C, T / 2)``."""
        return self.conv2(functional.avg_pool1d(self.conv1(x), 2))


class MPUp(nn.Module):
    """Twice the length: every frame repeated, then a convolution over three.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = MPConv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` -> ``(B, C, 2 T)``."""
        return self.conv(x.repeat_interleave(2, 2))
