"""Log-mels to audio: a learned ISTFT head with phase integration. Our choice of design, no adversary.

The network regresses quantities that are well posed given a mel: log-magnitudes and two unit vectors a bin, the phase
advance from the frame before (less the bin centre's own) and from the bin below. The phase itself is arbitrary; it is
integrated from these. A predicted vector's length is the network's certainty: E[exp(i x)] has length exp(-s^2 / 2) for
a wrapped normal x of spread s.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from fluxlight.codec.autoencoder import ConvBlock
from fluxlight.codec.mel import Spectrum


class Vocoder(nn.Module):
    """Mels to spectra to audio.

    Args:
        spectrum: the shared front end.
        extra: channels a frame that the mel decoder adds.
        width: width of the blocks.
        depth: number of blocks.
        phase_bins: bins (from 0 Hz) whose phase advance is predicted; phases above are noise.
        refine: fixed fast Griffin-Lim iterations after the integration.
        sweeps: rounds of voting between neighbouring bins in a frame.
        jitter: weight of a fixed random vote, in units of the bin's magnitude; it decides where nothing else does.
    """

    mel_mean: Tensor
    mel_scale: Tensor
    spread: Tensor
    offset: Tensor
    importance: Tensor

    def __init__(
        self,
        spectrum: Spectrum,
        extra: int = 16,
        width: int = 192,
        depth: int = 5,
        phase_bins: int = 512,
        refine: int = 4,
        sweeps: int = 2,
        jitter: float = 0.1,
    ) -> None:
        super().__init__()
        self.spectrum, self.phase_bins, self.refine = spectrum, phase_bins, refine
        self.sweeps, self.jitter = sweeps, jitter
        bins = spectrum.n_fft // 2 + 1
        self.register_buffer("mel_mean", torch.zeros(spectrum.n_mels))
        self.register_buffer("mel_scale", torch.ones(()))
        self.inlet = nn.Conv1d(spectrum.n_mels + extra, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ConvBlock(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.to_magnitude = nn.Linear(width, bins)
        self.to_phase = nn.Linear(width, 4 * phase_bins)
        nn.init.normal_(self.to_magnitude.weight, std=0.01)
        nn.init.normal_(self.to_phase.weight, std=0.01)
        # a bin's starting magnitude: the mels around it, each as the level its filter would see
        spread = spectrum.filters.T / spectrum.filters.sum(0).clamp(min=1e-8)[:, None]
        spread[0], spread[-1] = spread[1], spread[-2]
        self.register_buffer("spread", spread, persistent=False)
        self.register_buffer("offset", spread @ spectrum.filters.sum(1).log(), persistent=False)

        # mels are dense at the bottom: weight of a bin in the loss ~ how narrow the ear's bands are there, mean 1
        hz = torch.arange(bins) * (spectrum.sample_rate / spectrum.n_fft)
        weight = 0.15 + 700.0 / (700.0 + hz)
        self.register_buffer("importance", weight / weight.mean(), persistent=False)

    def forward(self, mel: Tensor, extra: Tensor) -> tuple[Tensor, Tensor]:
        """Spectral quantities of log-mels.

        Args:
            mel: ``(B, n_mels, T)``.
            extra: ``(B, extra, T)``.

        Returns:
            Log-magnitude ``(B, T, bins)`` and phase vectors ``(B, T, 4, phase_bins)``: cosine and sine of the advance
            in time, then in frequency.
        """
        frames = mel.transpose(1, 2)
        standard = (frames - self.mel_mean) / self.mel_scale
        hidden = self.inlet(torch.cat((standard.transpose(1, 2), extra), 1)).transpose(1, 2)
        hidden = self.norm(self.blocks(hidden))
        with torch.autocast(frames.device.type, enabled=False):
            start = frames.float() @ self.spread.T - self.offset
        magnitude = start + self.to_magnitude(hidden)
        return magnitude, self.to_phase(hidden).unflatten(-1, (4, self.phase_bins))

    def targets(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What :meth:`forward` should say, from complex spectra ``(B, T + 1, bins)`` (one frame earlier first).

        Returns:
            Log-magnitude ``(B, T, bins)``, phase vectors ``(B, T, 4, phase_bins)`` and the weights of the two
            steps, the geometric mean of their ends' magnitudes, ``(B, T, 2, phase_bins)``.
        """
        now, before = frames[:, 1:], frames[:, :-1, : self.phase_bins]
        size = now.abs()
        magnitude = torch.log(torch.sqrt(size.square() + 1e-9))
        low = now[..., : self.phase_bins]
        in_time = low * before.conj() * self.carrier().conj()
        below = nn.functional.pad(low[..., :-1], (1, 0))
        in_frequency = low * below.conj()
        pairs = torch.stack((in_time, in_frequency), 2)
        length = pairs.abs()
        unit = pairs / length.clamp(min=1e-12)
        vectors = torch.stack((unit[:, :, 0].real, unit[:, :, 0].imag, unit[:, :, 1].real, unit[:, :, 1].imag), 2)
        return magnitude, vectors, length.sqrt()

    def carrier(self) -> Tensor:
        """Phase factor of one hop at each bin's centre ``(phase_bins,)``, complex."""
        bins = torch.arange(self.phase_bins, device=self.mel_mean.device)
        angle = 2.0 * math.pi * ((bins * self.spectrum.hop) % self.spectrum.n_fft) / self.spectrum.n_fft
        return torch.polar(torch.ones_like(angle), angle)

    def audio(self, mel: Tensor, extra: Tensor) -> Tensor:
        """Audio ``(B, T * hop)`` of log-mels ``(B, n_mels, T)``."""
        magnitude, vectors = self.steps(mel, extra)
        return self.polish(magnitude, self.integrate(magnitude, vectors))

    def steps(self, mel: Tensor, extra: Tensor) -> tuple[Tensor, Tensor]:
        """Magnitudes ``(B, T, bins)`` and phase vectors of log-mels: what phases are integrated from."""
        log_magnitude, vectors = self.forward(mel, extra)
        return log_magnitude.clamp(-14.0, 7.0).exp(), vectors

    def integrate(self, magnitude: Tensor, vectors: Tensor) -> Tensor:
        """Unit phases ``(B, T, bins)``, complex, of magnitudes ``(B, T, bins)`` and phase vectors.

        Frame by frame: a bin's phase is the weighted vote of the same bin one frame earlier and of its two neighbours
        in the frame, each voting with its magnitude times the certainty of the step between. So a steady tone follows
        its own advance, and at an onset, where the frame before is weak, the bins align among each other.
        """
        batch, frames, bins = magnitude.shape
        low = self.phase_bins
        device = magnitude.device
        # numpy: 864 short steps cost half of what they would as tensors
        size = magnitude[..., :low].cpu().numpy()
        arrow = vectors.cpu().numpy()
        carrier = self.carrier().cpu().numpy()
        time_step = (arrow[:, :, 0] + 1j * arrow[:, :, 1]).astype(np.complex64) * carrier
        time_step[:, 1:] *= size[:, :-1]
        bin_step = (arrow[:, :, 2] + 1j * arrow[:, :, 3]).astype(np.complex64)
        from_below = bin_step[..., 1:] * size[..., :-1]
        from_above = bin_step[..., 1:].conj() * size[..., 1:]
        noise = _fixed_noise(frames, bins)
        jitter = noise[:, :low] * size * np.float32(self.jitter)
        out = np.empty((batch, frames, bins), np.complex64)
        out[..., low:] = noise[:, low:]
        unit = np.broadcast_to(noise[0, :low], (batch, low))
        for frame in range(frames):
            vote = time_step[:, frame] * unit + jitter[:, frame]
            unit = vote / (np.abs(vote) + 1e-12)
            for _ in range(self.sweeps):
                total = vote.copy()
                total[:, 1:] += from_below[:, frame] * unit[:, :-1]
                total[:, :-1] += from_above[:, frame] * unit[:, 1:]
                unit = total / (np.abs(total) + 1e-12)
            out[:, frame, :low] = unit
        return torch.from_numpy(out).to(device)

    def polish(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        """Audio of magnitudes and a good start for the phases, both ``(B, T, bins)``.

        Fast Griffin-Lim (Perraudin et al., 2013, momentum 0.99), a few fixed iterations.
        """
        spectrum = magnitude * phase
        last: Tensor | None = None
        for _ in range(self.refine):
            # on pairs of reals: complex arithmetic is several times slower on a CPU
            consistent = torch.view_as_real(self.spectrum.frames_of(self.spectrum.audio_of(spectrum)))
            moved = consistent if last is None else torch.lerp(last, consistent, 1.99)
            last = consistent
            gain = magnitude * torch.rsqrt(moved.square().sum(-1) + 1e-18)
            spectrum = torch.view_as_complex(moved * gain[..., None])
        return self.spectrum.audio_of(spectrum)


@lru_cache(maxsize=2)
def _fixed_noise(frames: int, bins: int) -> np.ndarray:
    """Unit phases ``(frames, bins)``, one draw for every clip and batch: decoding is a function of the latent alone."""
    noise = np.exp(2j * np.pi * np.random.default_rng(20260).random((frames, bins))).astype(np.complex64)
    noise.flags.writeable = False
    return noise
