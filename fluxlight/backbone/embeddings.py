"""Time embedding and rotary positions of FluxAudio (FACTS section 6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TimeEmbedding(nn.Module):
    """Sines and cosines of a time in [0, 1], then Linear, SiLU, Linear.

    Args:
        width: features of the result, h.
        frequencies: number of frequencies 10000^(-2i/256), half of the first layer's inputs.
    """

    freqs: Tensor

    def __init__(self, width: int, frequencies: int = 128) -> None:
        super().__init__()
        exponent = torch.arange(frequencies, dtype=torch.float32) / frequencies
        self.register_buffer("freqs", 10000.0**-exponent, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def waves(self, t: Tensor) -> Tensor:
        """``(B,)`` -> ``(B, 256)``: cosines, then sines of t * frequency, in fp32."""
        angle = t.float()[:, None] * self.freqs
        return torch.cat([angle.cos(), angle.sin()], dim=-1)

    def forward(self, t: Tensor) -> Tensor:
        """``(B,)`` -> ``(B, h)``."""
        return self.mlp(self.waves(t).to(next(self.mlp.parameters()).dtype))


def rotation(start: int, stop: int, dim: int, device: torch.device, theta: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles of positions ``start .. stop - 1``, each ``(n, dim / 2)``, fp32."""
    position = torch.arange(start, stop, dtype=torch.float32, device=device)
    frequency = theta ** -(torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim)
    angle = position[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Turn adjacent pairs (2i, 2i + 1) of ``x`` ``(B, N, H, d)`` by the angles of ``table`` ``(N, d / 2)``, in fp32."""
    cos, sin = (value[:, None] for value in table)
    if torch.compiler.is_compiling():
        # the compiler writes no code for complex numbers, and joins these into one pass by itself
        even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
        return turned.flatten(-2).to(x.dtype)
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)
