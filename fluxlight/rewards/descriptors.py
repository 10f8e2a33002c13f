"""A deterministic second audio embedding: signal statistics that make known damage visible (our choice).

It stands where MERT stands in TuneJury's input. No training, no weights but a mean and a scale: bands and their
floors (muffled, noisy), waveform tops (clipped), attack sharpness and grid (mistimed), cents and intervals of
spectral peaks (detuned, wrong harmony), holes and polyphony (dropped tracks). The audio is first scaled to unit RMS,
so level says nothing; clipping stays visible because it is a shape, not a level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from fluxlight.rewards import spectra
from fluxlight.rewards.base import check_audio

VERSION = 1
"""Counts changes of the formulas below: caches and shipped heads belong to one version."""

RATE = 44_100
"""Hz at which every window below is defined; other rates are resampled."""

FLOOR_DB = -80.0
"""Energies are read down to this level below the unit-RMS clip, dB."""


@dataclass(frozen=True)
class FrontEnd:
    """Parameters of one descriptor set; A and B differ so that their errors do too.

    Attributes:
        bands: log-spaced energy bands between 40 Hz and 18 kHz.
        n_fft, hop: STFT of the band statistics, samples.
        onset_fft, onset_hop: STFT of the attacks.
        pitch_fft, pitch_hop: STFT of the spectral peaks.
        window: ``hann`` or ``blackman``.
        robust: medians and quantile spreads instead of means and standard deviations.
        cents: width of a tuning histogram bin.
        peaks: strongest spectral peaks kept per frame.
    """

    bands: int = 32
    n_fft: int = 2048
    hop: int = 1024
    onset_fft: int = 1024
    onset_hop: int = 441
    pitch_fft: int = 8192
    pitch_hop: int = 4096
    window: str = "hann"
    robust: bool = False
    cents: float = 10.0
    peaks: int = 24


FRONT_A = FrontEnd()
FRONT_B = FrontEnd(
    bands=26, n_fft=4096, hop=2048, onset_fft=512, onset_hop=256, pitch_fft=16384, pitch_hop=8192, window="blackman",
    robust=True, cents=100 / 7, peaks=32,
)  # fmt: skip


class SignalDescriptors(nn.Module):
    """Audio to standardised signal statistics.

    Args:
        front: windows, bands and statistics.

    Attributes:
        names: one name per dimension.
        mean, scale: standardisation ``(D,)``, from ``fit`` on training clips.
    """

    mean: Tensor
    scale: Tensor
    band_window: Tensor
    onset_window: Tensor
    pitch_window: Tensor
    band_bank: Tensor
    onset_bank: Tensor

    def __init__(self, front: FrontEnd = FRONT_A) -> None:
        super().__init__()
        self.front = front
        make = torch.hann_window if front.window == "hann" else torch.blackman_window
        for name, size in (("band", front.n_fft), ("onset", front.onset_fft), ("pitch", front.pitch_fft)):
            window = make(size)
            # unit energy: a spectrum's mean power equals the signal's, whatever the window
            self.register_buffer(f"{name}_window", window / window.square().sum().sqrt(), persistent=False)
        self.register_buffer("band_bank", spectra.band_bank(front.bands, front.n_fft, RATE), persistent=False)
        self.register_buffer("onset_bank", spectra.band_bank(12, front.onset_fft, RATE, low=60.0), persistent=False)
        tone = torch.sin(torch.arange(RATE) * 0.1).unsqueeze(0)
        self.names = [name for name, _ in self._parts(tone)]
        self.register_buffer("mean", torch.zeros(len(self.names)))
        self.register_buffer("scale", torch.ones(len(self.names)))

    @property
    def dim(self) -> int:
        """Number of descriptors."""
        return len(self.names)

    def settings(self) -> dict[str, object]:
        """What fixes the values: the key under which they are cached."""
        return {"version": VERSION, **asdict(self.front)}

    @torch.no_grad()
    def raw(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Descriptors ``(B, D)`` before standardisation, of audio ``(B, N)``."""
        audio = spectra.resample(check_audio(audio, sample_rate), sample_rate, RATE)
        audio = audio - audio.mean(dim=1, keepdim=True)
        rms = audio.square().mean(dim=1, keepdim=True).sqrt()
        # below -100 dBFS there is only rounding: call it silence rather than amplify it
        audio = torch.where(rms > 1e-5, audio / rms.clamp_min(1e-5), torch.zeros_like(audio))
        return torch.stack([value for _, value in self._parts(audio)], dim=1)

    def forward(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Standardised descriptors ``(B, D)`` of audio ``(B, N)``, clipped to +-5 so that no outlier rules the head."""
        return self.standardise(self.raw(audio, sample_rate))

    def standardise(self, raw: Tensor) -> Tensor:
        """(raw - mean) / scale, clipped to +-5."""
        return ((raw - self.mean) / self.scale).clamp(-5.0, 5.0)

    def fit(self, raw: Tensor) -> None:
        """Set mean and scale from raw descriptors ``(N, D)`` of training clips; a constant one gets scale 1."""
        self.mean = raw.double().mean(dim=0).float()
        spread = raw.double().std(dim=0).float()
        self.scale = torch.where(spread > 1e-6, spread, torch.ones_like(spread))

    def _parts(self, audio: Tensor) -> list[tuple[str, Tensor]]:
        """Named statistics, each ``(B,)``, of unit-RMS audio."""
        parts: list[tuple[str, Tensor]] = []

        def add(name: str, values: Tensor) -> None:
            values = values.reshape(values.shape[0], -1)
            if values.shape[1] == 1:
                parts.append((name, values[:, 0]))
            else:
                parts.extend((f"{name}_{index}", values[:, index]) for index in range(values.shape[1]))

        self._bands(audio, add)
        self._waveform(audio, add)
        self._attacks(audio, add)
        self._pitches(audio, add)
        return parts

    def _bands(self, audio: Tensor, add: Callable[[str, Tensor], None]) -> None:
        """Level, spread and floor per band; brightness, flatness and holes."""
        power = spectra.power(audio, self.band_window, self.front.hop)  # (B, F, T)
        level = spectra.decibel(self.band_bank @ power, FLOOR_DB)  # (B, bands, T)
        quantiles = spectra.quantiles(level, (0.05, 0.1, 0.5, 0.9, 0.98))  # (5, B, bands)
        centre = quantiles[2] if self.front.robust else level.mean(dim=2)
        spread = quantiles[3] - quantiles[1] if self.front.robust else level.std(dim=2)
        add("band_level", centre)
        add("band_spread", spectra.pool(spread, 13))
        add("band_floor", spectra.pool(quantiles[0] - quantiles[4], 13))
        # quiet frames: what is left when nobody plays (hiss has a flat, high one; reverb a dark, falling one)
        loud = spectra.decibel(power.mean(dim=1), FLOOR_DB)  # (B, T)
        quiet = loud.argsort(dim=1)[:, : max(2, loud.shape[1] // 10)]
        rest = level.gather(2, quiet.unsqueeze(1).expand(-1, level.shape[1], -1)).mean(dim=2)
        add("quiet_band", spectra.pool(rest, 8))
        for name, low, high in (("low", 200, 1000), ("mid", 1000, 4000), ("high", 4000, 9000), ("air", 9000, 16000)):
            a, b = (round(hz / RATE * self.front.n_fft) for hz in (low, high))
            flat = spectra.flatness(power[:, a:b])  # (B, T)
            add(f"flatness_{name}", torch.stack([flat.mean(dim=1), flat.gather(1, quiet).mean(dim=1)], dim=1))
        total = power.mean(dim=2)
        add("rolloff", spectra.rolloff(total, (0.5, 0.85, 0.95, 0.99)))
        steps = spectra.quantiles(loud.unsqueeze(1), (0.02, 0.1, 0.25, 0.75, 0.9, 0.98))[:, :, 0].T
        add("loud_quantile", steps)
        # whole seconds: a player who falls silent leaves a step between neighbours
        seconds = torch.nn.functional.adaptive_avg_pool1d(level, 10)
        regions = spectra.pool(seconds.transpose(1, 2).reshape(-1, level.shape[1]), 5).reshape(level.shape[0], 10, 5)
        change = regions.diff(dim=1)
        add("second_drop", torch.cat([change.amin(dim=1), change.abs().mean(dim=1)], dim=1))
        add("hole_share", (regions < regions.amax(dim=1, keepdim=True) - 20).float().mean(dim=1))

    def _waveform(self, audio: Tensor, add: Callable[[str, Tensor], None]) -> None:
        """Tops of the waveform: clipping piles samples up at one height and leaves them standing there."""
        size = audio.abs()
        top = size.amax(dim=1, keepdim=True).clamp_min(1e-6)
        share = [spectra.log_share(size > edge * top) for edge in (0.995, 0.98, 0.95, 0.9, 0.8, 0.6)]
        step = audio.diff(dim=1).abs()
        standing = (step < 0.004 * top) & (size[:, 1:] > 0.5 * top)
        add("top_share", torch.stack(share, dim=1))
        add("top_standing", spectra.log_share(standing))
        add("crest", 20 * top.log10())
        add("kurtosis", audio.pow(4).mean(dim=1).clamp_min(1e-6).log())
        block = RATE // 20
        blocks = size[:, : size.shape[1] // block * block].reshape(size.shape[0], -1, block).amax(dim=2)
        add("block_peak", spectra.quantiles((blocks / top).unsqueeze(1), (0.1, 0.5, 0.9))[:, :, 0].T)
        add("block_at_top", (blocks > 0.98 * top).float().mean(dim=1))
        bend = audio.diff(dim=1).diff(dim=1).square()
        corner = spectra.quantiles(bend[:, ::7].unsqueeze(1), (0.5, 0.99))[:, :, 0]
        add("corner", ((corner[1] + 1e-10) / (corner[0] + 1e-10)).log())

    def _attacks(self, audio: Tensor, add: Callable[[str, Tensor], None]) -> None:
        """Sharpness of attacks, their doublets and their grid, in three registers."""
        power = spectra.power(audio, self.onset_window, self.front.onset_hop)
        level = spectra.decibel(self.onset_bank @ power, -60.0)
        rise = level.diff(dim=2).clamp_min(0.0)
        registers = torch.stack([rise[:, :4].mean(1), rise[:, 4:8].mean(1), rise[:, 8:].mean(1)], dim=1)  # (B, 3, T)
        add("rise", registers.mean(dim=2))
        edges = spectra.quantiles(registers, (0.5, 0.9, 0.98))
        add("rise_quantile", edges.permute(1, 0, 2))
        rate = RATE / self.front.onset_hop
        whole = torch.cat([registers, registers.mean(dim=1, keepdim=True)], dim=1)
        add("attack_lag", spectra.lag_curve(whole[:, 3], [round(ms / 1000 * rate) for ms in (12, 23, 35, 47, 70, 93)]))
        add("grid", spectra.grid(whole, rate))
        add("together", spectra.together(registers, round(0.08 * rate)))

    def _pitches(self, audio: Tensor, add: Callable[[str, Tensor], None]) -> None:
        """Cents off equal temperament at 440 Hz, intervals that sound together, key, bass against chord."""
        power = spectra.power(audio, self.pitch_window, self.front.pitch_hop)
        pitch, weight = spectra.peaks(power, RATE, self.front.pitch_fft, self.front.peaks)  # semitones (B, T, P)
        add("tuning", spectra.tuning(pitch, weight, self.front.cents))
        add("tuning_high", spectra.tuning_spread(pitch, weight * (pitch > 76)))
        add("tuning_low", spectra.tuning_spread(pitch, weight * (pitch < 60)))
        add("polyphony", spectra.polyphony(weight))
        salience = spectra.salience(pitch, weight)  # (B, T, 60) notes 36..95
        add("interval", spectra.intervals(salience))
        chroma = salience.reshape(*salience.shape[:2], 5, 12).sum(dim=2)
        add("key", spectra.key(chroma))
        add("bass", spectra.bass_intervals(salience))
