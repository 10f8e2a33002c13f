"""BigVGAN: log-mels to audio by transposed convolutions and anti-aliased periodic activations (arXiv 2206.04658).

Names as published (`resblocks.0.convs1.0.weight` ...), with the weight norm folded in. Source of the formulas: the
paper; of the sizes: the published config.json of `bigvgan_v2_44khz_128band_512x` and, for 16 kHz, the
vocoder of Make-An-Audio 2 (a BigVGAN of the first version: bias and tanh at its end), whose file has no config.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CONFIG_44K: dict[str, Any] = {
    "num_mels": 128,
    "upsample_initial_channel": 1536,
    "upsample_rates": [8, 4, 2, 2, 2, 2],
    "upsample_kernel_sizes": [16, 8, 4, 4, 4, 4],
    "resblock": "1",
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "activation": "snakebeta",
    "snake_logscale": True,
    "use_bias_at_final": False,
    "use_tanh_at_final": False,
}
"""What matters of the published config.json."""

CONFIG_16K: dict[str, Any] = CONFIG_44K | {
    "num_mels": 80,
    "upsample_rates": [4, 4, 2, 2, 2, 2],
    "upsample_kernel_sizes": [8, 8, 4, 4, 4, 4],
    "use_bias_at_final": True,
    "use_tanh_at_final": True,
}
"""The 16 kHz vocoder's sizes; second-hand [S], there are no golden vectors of it."""

FIXED = {"resblock": "1", "activation": "snakebeta", "snake_logscale": True}
"""Settings of which only the published value is built here."""

TAPS = 12
"""Taps of the anti-aliasing filters; they change the rate by 2."""


def low_pass(taps: int = TAPS, cutoff: float = 0.25, half_width: float = 0.3) -> Tensor:
    """Kaiser-windowed sinc ``(1, 1, taps)`` of unit sum; ``cutoff`` and ``half_width`` in cycles a sample.

    The window's beta follows Kaiser's rule for a transition band of ``2 * half_width``.
    """
    attenuation = 2.285 * (taps / 2 - 1) * math.pi * 4 * half_width + 7.95
    if attenuation > 50.0:
        beta = 0.1102 * (attenuation - 8.7)
    else:
        beta = 0.5842 * max(attenuation - 21.0, 0.0) ** 0.4 + 0.07886 * max(attenuation - 21.0, 0.0)
    time = torch.arange(taps) - (taps - 1) / 2
    sinc = torch.kaiser_window(taps, periodic=False, beta=beta) * torch.sinc(2 * cutoff * time)
    return (sinc / sinc.sum())[None, None]


class SnakeBeta(nn.Module):
    """x + sin^2(alpha x) / beta with a pair of learned logarithms a channel: ``(B, C, T)`` both ways.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` -> ``(B, C, T)``, channel by channel."""
        wave = torch.sin(x * self.alpha.exp()[:, None]).square_()
        return torch.addcdiv(x, wave, self.beta.exp()[:, None] + 1e-9)


class Upsample(nn.Module):
    """Twice the rate, low-passed: ``(B, C, T)`` -> ``(B, C, 2 T)``; the ends are held."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", low_pass())

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` -> ``(B, C, 2 T)``."""
        taps = 2.0 * self.filter.expand(x.shape[1], -1, -1)
        held = functional.pad(x, (TAPS // 2 - 1, TAPS // 2 - 1), mode="replicate")
        # what the held samples and the filter's length add at either end
        extra = TAPS - 2 + (TAPS - 2) // 2
        return functional.conv_transpose1d(held, taps, stride=2, groups=x.shape[1])[..., extra:-extra]


class LowPass(nn.Module):
    """Half the rate, low-passed: ``(B, C, 2 T)`` -> ``(B, C, T)``; the ends are held."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", low_pass())

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` -> ``(B, C, T / 2)``."""
        held = functional.pad(x, (TAPS // 2 - 1, TAPS // 2), mode="replicate")
        return functional.conv1d(held, self.filter.expand(x.shape[1], -1, -1), stride=2, groups=x.shape[1])


class Downsample(nn.Module):
    """The low-pass under its published name."""

    def __init__(self) -> None:
        super().__init__()
        self.lowpass = LowPass()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` -> ``(B, C, T / 2)``."""
        return self.lowpass(x)


class Activation(nn.Module):
    """SnakeBeta at twice the rate, so that the harmonics it makes do not fold back: ``(B, C, T)`` both ways.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act = SnakeBeta(channels)
        self.upsample = Upsample()
        self.downsample = Downsample()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` -> ``(B, C, T)``, activated at twice the rate."""
        return self.downsample(self.act(self.upsample(x)))


class ResBlock(nn.Module):
    """Dilated convolutions between activations, each pair added to its input: ``(B, C, T)`` both ways.

    Args:
        channels: C.
        kernel: taps, odd.
        dilations: of the first convolution of each pair.
    """

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=d, padding=d * (kernel - 1) // 2) for d in dilations
        )
        self.convs2 = nn.ModuleList(nn.Conv1d(channels, channels, kernel, padding=kernel // 2) for _ in dilations)
        self.activations = nn.ModuleList(Activation(channels) for _ in range(2 * len(dilations)))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` -> ``(B, C, T)``, the input added to what each pair of convolutions makes."""
        for i, (first, second) in enumerate(zip(self.convs1, self.convs2, strict=True)):
            x = x + second(self.activations[2 * i + 1](first(self.activations[2 * i](x))))
        return x


class BigVGAN(nn.Module):
    """Log-mels ``(B, n_mels, T)`` -> audio ``(B, T * hop)`` in [-1, 1].

    Args:
        config: settings under their published names; see ``CONFIG_44K``.
    """

    def __init__(self, config: Mapping[str, Any] = CONFIG_44K) -> None:
        super().__init__()
        missing = [name for name in CONFIG_44K if name not in config]
        if missing:
            raise ValueError(f"BigVGAN config lacks {', '.join(missing)}: give the published config.json")
        for name, value in FIXED.items():
            if config[name] != value:
                raise ValueError(f"BigVGAN config has {name} {config[name]!r}: only {value!r} is built here")
        for one, other in (
            ("upsample_rates", "upsample_kernel_sizes"),
            ("resblock_kernel_sizes", "resblock_dilation_sizes"),
        ):
            if len(config[one]) != len(config[other]):
                raise ValueError(f"BigVGAN config has {len(config[one])} {one} and {len(config[other])} {other}")
        rates, kernels = config["upsample_rates"], config["upsample_kernel_sizes"]
        self.n_mels, self.hop, self.tanh = config["num_mels"], math.prod(rates), config["use_tanh_at_final"]
        width = config["upsample_initial_channel"]
        if width < 2 ** len(rates):
            raise ValueError(
                f"BigVGAN config has upsample_initial_channel {width}: {2 ** len(rates)} or more is needed"
            )
        self.conv_pre = nn.Conv1d(self.n_mels, width, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, kernel in zip(rates, kernels, strict=True):
            step = nn.ConvTranspose1d(width, width // 2, kernel, stride=rate, padding=(kernel - rate) // 2)
            self.ups.append(nn.ModuleList((step,)))
            width //= 2
            for taps, dilations in zip(config["resblock_kernel_sizes"], config["resblock_dilation_sizes"], strict=True):
                self.resblocks.append(ResBlock(width, taps, dilations))
        self.kernels = len(config["resblock_kernel_sizes"])
        self.activation_post = Activation(width)
        self.conv_post = nn.Conv1d(width, 1, 7, padding=3, bias=config["use_bias_at_final"])

    def forward(self, mel: Tensor) -> Tensor:
        """Log mel ``(B, M, T)`` -> audio ``(B, 1, N)`` in [-1, 1]."""
        x = self.conv_pre(mel)
        for i, up in enumerate(self.ups):
            x = up[0](x)  # type: ignore[index]
            total = torch.zeros_like(x)
            for block in self.resblocks[i * self.kernels : (i + 1) * self.kernels]:
                total += block(x)
            x = total / self.kernels
        x = self.conv_post(self.activation_post(x))[:, 0]
        return torch.tanh(x) if self.tanh else x.clamp(-1.0, 1.0)


def fold_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with every weight norm, g v / |v| per first index, replaced by the weight it stands for.

    Both of torch's spellings are read: ``weight_g`` and ``weight_v`` (published), and
    ``parametrizations.weight.original0`` and ``original1``. Plain weights stay.
    """
    folded = {}
    for name, value in state.items():
        stem, _, last = name.rpartition(".")
        if last in ("weight_g", "original0"):
            continue
        if last in ("weight_v", "original1"):
            old = last == "weight_v"
            gain = state.get(f"{stem}.{'weight_g' if old else 'original0'}")
            if gain is None or gain.shape != (value.shape[0], *(1 for _ in value.shape[1:])):
                raise ValueError(f"BigVGAN weight norm {name} has no gain that fits: fetch the file again")
            length = value.square().sum(tuple(range(1, value.ndim)), keepdim=True).sqrt()
            plain = stem if old else stem.removesuffix(".parametrizations.weight")
            folded[f"{plain}.weight"] = gain * value / length
        else:
            folded[name] = value
    return folded
