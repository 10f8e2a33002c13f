"""Spectra: the published 44.1 kHz log-mel front end and an overlap-add inverse on the same frame grid.

Source of the front end: FACTS section 8 ("mel"): clamp +-1, reflect pad (n_fft - hop) / 2 on both sides, STFT with
``center=False`` and a Hann window, magnitude sqrt(power + 1e-9), librosa's mel filters (Slaney scale and norm,
128 bins, 0 Hz to Nyquist at 44.1 kHz), clamp at 1e-5, natural logarithm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

DB_PER_NAT = 20.0 / math.log(10.0)
"""Decibels of amplitude per unit of natural logarithm: a log-mel difference of 1 is 8.686 dB."""


def hz_to_mel(hz: Tensor) -> Tensor:
    """Slaney's mel scale: linear (200/3 Hz a mel) below 1 kHz, logarithmic (27 steps a factor 6.4) above."""
    return torch.where(
        hz < 1000.0, hz * 3.0 / 200.0, 15.0 + torch.log(hz.clamp(min=1.0) / 1000.0) * 27.0 / math.log(6.4)
    )


def mel_to_hz(mel: Tensor) -> Tensor:
    """Inverse of :func:`hz_to_mel`."""
    return torch.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * torch.exp((mel - 15.0) * math.log(6.4) / 27.0))


def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Triangular filters of equal area ``(n_mels, n_fft // 2 + 1)``, as ``librosa.filters.mel`` makes them."""
    top = hz_to_mel(torch.tensor(sample_rate / 2.0, dtype=torch.float64))
    edges = mel_to_hz(torch.linspace(0.0, float(top), n_mels + 2, dtype=torch.float64))
    bins = torch.linspace(0.0, sample_rate / 2.0, n_fft // 2 + 1, dtype=torch.float64)
    rise = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1])[:, None]
    area = 2.0 / (edges[2:] - edges[:-2])
    return (torch.minimum(rise, fall).clamp(min=0.0) * area[:, None]).float()


class Spectrum(nn.Module):
    """STFT, log-mel and overlap-add ISTFT on one frame grid: N samples give N / hop frames.

    Args:
        sample_rate: Hz.
        n_fft: window and transform length, samples.
        hop: samples between frames.
        n_mels: mel bins.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int = 44100, n_fft: int = 2048, hop: int = 512, n_mels: int = 128) -> None:
        super().__init__()
        self.sample_rate, self.n_fft, self.hop, self.n_mels = sample_rate, n_fft, hop, n_mels
        self.pad = (n_fft - hop) // 2
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", mel_filters(sample_rate, n_fft, n_mels), persistent=False)

    def frames_of(self, audio: Tensor) -> Tensor:
        """Complex spectrum, frame by frame, ``(B, N / hop, n_fft / 2 + 1)`` of audio ``(B, N)``."""
        padded = nn.functional.pad(audio[:, None], (self.pad, self.pad), mode="reflect")[:, 0]
        # frames by unfold: several times faster than torch.stft on a CPU
        return torch.fft.rfft(padded.unfold(-1, self.n_fft, self.hop) * self.window)

    def audio_of(self, spectrum: Tensor) -> Tensor:
        """Audio ``(B, T * hop)`` of spectra ``(B, T, n_fft / 2 + 1)``: the least-squares inverse of a STFT."""
        frames = torch.fft.irfft(spectrum, n=self.n_fft) * self.window
        audio = self.overlap_add(frames)
        weight = self.overlap_add((self.window**2).expand(1, frames.shape[1], -1))
        # the first and last samples lie under one window's tail only: the floor keeps their gain bounded
        return audio / weight.clamp(min=0.1)

    def overlap_add(self, frames: Tensor) -> Tensor:
        """Sum of frames ``(B, T, n_fft)`` shifted by the hop, without the padding: ``(B, T * hop)``."""
        count, steps = frames.shape[1], self.n_fft // self.hop
        # n_fft is a whole number of hops, so overlap-add is a sum of ``steps`` shifted copies: faster than fold
        parts = frames.reshape(frames.shape[0], count, steps, self.hop)
        total = frames.new_zeros(frames.shape[0], count + steps - 1, self.hop)
        for step in range(steps):
            total[:, step : step + count] += parts[:, :, step]
        flat = total.reshape(frames.shape[0], -1)
        return flat[:, self.pad : self.pad + count * self.hop]

    def mel_of(self, magnitude: Tensor) -> Tensor:
        """Log-mel ``(B, n_mels, T)`` of magnitudes ``(B, T, n_fft / 2 + 1)``."""
        return torch.log((self.filters @ magnitude.transpose(1, 2)).clamp(min=1e-5))

    def mel(self, audio: Tensor) -> Tensor:
        """Log-mel ``(B, n_mels, N / hop)`` of audio ``(B, N)`` (FACTS section 8)."""
        power = torch.view_as_real(self.frames_of(audio.clamp(-1.0, 1.0))).square().sum(-1)
        return self.mel_of(torch.sqrt(power + 1e-9))
