"""Pure functions under the signal descriptors: spectra, peaks, intervals, grids. All are batched and deterministic."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MAJOR = (0, 2, 4, 5, 7, 9, 11)
HARMONIC_MINOR = (0, 2, 3, 5, 7, 8, 11)


def resample(audio: Tensor, rate: int, target: int) -> Tensor:
    """Audio ``(B, N)`` at another sample rate (soxr, high quality); unchanged when the rates agree."""
    if rate == target:
        return audio
    import soxr

    rows = [soxr.resample(row.cpu().numpy(), rate, target) for row in audio]
    return torch.stack([torch.from_numpy(row) for row in rows]).to(audio)


def power(audio: Tensor, window: Tensor, hop: int) -> Tensor:
    """Power spectrogram ``(B, F, T)`` of audio ``(B, N)``."""
    size = window.numel()
    spectrum = torch.stft(audio, size, hop, window=window, center=True, pad_mode="constant", return_complex=True)
    return spectrum.real.square() + spectrum.imag.square()


def decibel(energy: Tensor, floor: float) -> Tensor:
    """10 log10 of an energy, bounded from below softly by ``floor`` dB."""
    return 10 * torch.log10(energy + 10 ** (floor / 10))


def band_bank(bands: int, n_fft: int, rate: int, low: float = 40.0, high: float = 18_000.0) -> Tensor:
    """Triangular bands ``(bands, n_fft // 2 + 1)``, evenly spaced on the scale log(1 + f / 700); rows sum to 1."""
    edge = torch.linspace(math.log1p(low / 700), math.log1p(high / 700), bands + 2, dtype=torch.float64).expm1() * 700
    freq = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * rate / n_fft
    # a band narrower than a bin would be empty: widen it to reach the nearest two
    width = torch.maximum(edge.diff(), torch.tensor(rate / n_fft, dtype=torch.float64))
    centre = edge[1:-1, None]
    bank = torch.minimum(1 - (centre - freq) / width[:-1, None], 1 - (freq - centre) / width[1:, None]).clamp_min(0)
    return (bank / bank.sum(dim=1, keepdim=True)).float()


def pool(values: Tensor, size: int) -> Tensor:
    """Average neighbours of the last axis ``(B, D)`` down to ``(B, size)``."""
    return torch.nn.functional.adaptive_avg_pool1d(values.unsqueeze(1), size).squeeze(1)


def quantiles(values: Tensor, q: Sequence[float]) -> Tensor:
    """Quantiles of the last axis ``(B, D, T)`` -> ``(len(q), B, D)``, nearest rank."""
    ordered = values.sort(dim=-1).values
    last = values.shape[-1] - 1
    return torch.stack([ordered[..., round(share * last)] for share in q])


def log_share(mask: Tensor) -> Tensor:
    """log10 of the share of true samples ``(B, N)`` -> ``(B,)``, never below one in 100,000."""
    return torch.log10(mask.float().mean(dim=1) + 1e-5)


def flatness(power: Tensor) -> Tensor:
    """Spectral flatness in nepers, ``(B, F, T)`` -> ``(B, T)``: mean of the log less log of the mean; 0 is noise."""
    power = power + 1e-9
    return power.log().mean(dim=1) - power.mean(dim=1).log()


def rolloff(total: Tensor, shares: Sequence[float]) -> Tensor:
    """Position of the energy quantiles on a log-frequency axis, ``(B, F)`` -> ``(B, len(shares))``."""
    rising = (total + 1e-9).cumsum(dim=1)
    rising = rising / rising[:, -1:]
    where = torch.stack([(rising < share).sum(dim=1) for share in shares], dim=1)
    return torch.log2(where.float() + 1)


def _normed(curve: Tensor) -> Tensor:
    curve = curve - curve.mean(dim=-1, keepdim=True)
    return curve / curve.square().sum(dim=-1, keepdim=True).sqrt().clamp_min(1e-6)


def _autocorrelation(curve: Tensor) -> Tensor:
    size = curve.shape[-1]
    spectrum = torch.fft.rfft(_normed(curve), n=2 * size)
    return torch.fft.irfft(spectrum.abs().square(), n=2 * size)[..., :size]


def lag_curve(curve: Tensor, lags: Sequence[int]) -> Tensor:
    """Autocorrelation ``(B, len(lags))`` of an attack curve ``(B, T)`` at short lags: doublets of notes out of time."""
    return _autocorrelation(curve)[:, list(lags)]


def grid(curves: Tensor, rate: float) -> Tensor:
    """How much attacks keep to a grid, per register ``(B, C, T)`` -> ``(B, 6 C)``.

    Strongest autocorrelation between 0.15 and 1.2 s and 1.2 and 4 s, its sharpness, and of the modulation spectrum
    between 1.5 and 16 Hz the peak, the second harmonic-free peak share and the entropy.
    """
    around = _autocorrelation(curves)
    # zero lags up to 4 s, so that the statistics of a short clip exist too
    around = torch.nn.functional.pad(around, (0, max(0, round(4 * rate) - around.shape[-1])))
    short = around[..., round(0.15 * rate) : round(1.2 * rate)]
    long = around[..., round(1.2 * rate) : round(4 * rate)]
    best, where = short.max(dim=-1)
    where = where + round(0.15 * rate)
    near = max(2, round(0.03 * rate))
    before = (where - near).clamp_min(0).unsqueeze(-1)
    after = (where + near).clamp_max(around.shape[-1] - 1).unsqueeze(-1)
    beside = 0.5 * (around.gather(-1, before) + around.gather(-1, after)).squeeze(-1)
    size = curves.shape[-1]
    spectrum = torch.fft.rfft(_normed(curves) * torch.hann_window(size).to(curves), n=size).abs()
    hertz = rate / size
    part = spectrum[..., round(1.5 / hertz) : round(16 / hertz)]
    part = part / part.sum(dim=-1, keepdim=True).clamp_min(1e-6)
    strongest = part.topk(4, dim=-1).values
    entropy = -(part * (part + 1e-9).log()).sum(dim=-1)
    stats = [best, long.amax(dim=-1), best - beside, strongest[..., 0], strongest.sum(dim=-1), entropy]
    return torch.stack(stats, dim=-1).flatten(1)


def together(registers: Tensor, reach: int) -> Tensor:
    """Whether registers attack together, ``(B, 3, T)`` -> ``(B, 9)``.

    For each two: correlation at lag 0, the best within ``reach`` frames, and its lag as a share of ``reach``.
    """
    normed = _normed(registers)
    size = registers.shape[-1]
    spectrum = torch.fft.rfft(normed, n=2 * size)
    stats = []
    for a, b in ((0, 1), (0, 2), (1, 2)):
        cross = torch.fft.irfft(spectrum[:, a] * spectrum[:, b].conj(), n=2 * size)
        window = torch.cat([cross[:, -reach:], cross[:, : reach + 1]], dim=1)
        best, where = window.max(dim=1)
        stats += [cross[:, 0], best, (where - reach).abs() / reach]
    return torch.stack(stats, dim=1)


def peaks(power: Tensor, rate: int, n_fft: int, count: int) -> tuple[Tensor, Tensor]:
    """Strongest spectral peaks: pitch in semitones (MIDI numbers) and weight, each ``(B, T, count)``.

    A local maximum between 65 and 4,200 Hz, refined by a parabola through three log magnitudes; the weight is the
    square root of its magnitude relative to the clip's strongest, 0 when it is more than 50 dB down.
    """
    low, high = round(65 / rate * n_fft), round(4200 / rate * n_fft)
    level = (power[:, low - 1 : high + 1] + 1e-12).log()
    left, middle, right = level[:, :-2], level[:, 1:-1], level[:, 2:]
    top = middle.amax(dim=(1, 2), keepdim=True)
    is_peak = (middle > left) & (middle >= right) & (middle > top - 50 / 10 * math.log(10)) & (middle > math.log(1e-9))
    height = torch.where(is_peak, middle, torch.full_like(middle, -60.0))
    strong, where = height.topk(count, dim=1)  # (B, count, T)
    below, at, above = (side.gather(1, where) for side in (left, middle, right))
    offset = (0.5 * (below - above) / (below - 2 * at + above).clamp_max(-1e-6)).clamp(-0.5, 0.5)
    hertz = (where + low + offset) * rate / n_fft
    pitch = 69 + 12 * torch.log2(hertz / 440)
    weight = torch.where(strong > -59.0, (0.25 * (strong - top)).exp(), torch.zeros_like(strong))
    return pitch.transpose(1, 2), weight.transpose(1, 2)


def _mean(values: Tensor, weight: Tensor, dims: tuple[int, ...]) -> Tensor:
    return (values * weight).sum(dim=dims) / weight.sum(dim=dims).clamp_min(1e-6)


def tuning_spread(pitch: Tensor, weight: Tensor) -> Tensor:
    """Mean cent vector of peaks ``(B, T, P)``: its length, cos, sin; and the mean of |cents| / 50: ``(B, 4)``."""
    off = pitch - pitch.round()
    cos = _mean((2 * math.pi * off).cos(), weight, (1, 2))
    sin = _mean((2 * math.pi * off).sin(), weight, (1, 2))
    return torch.stack([(cos**2 + sin**2).sqrt(), cos, sin, _mean(2 * off.abs(), weight, (1, 2))], dim=1)


def tuning(pitch: Tensor, weight: Tensor, cents: float) -> Tensor:
    """Histogram of cents off equal temperament at 440 Hz, and its spread: ``(B, 100 / cents + 5)``.

    The last number is the mean over frames of the spread within a frame: players out of tune with each other.
    """
    off = pitch - pitch.round()
    bins = round(100 / cents)
    place = ((off + 0.5) * bins).long().clamp(0, bins - 1)
    histogram = torch.zeros(pitch.shape[0], bins, dtype=weight.dtype, device=weight.device)
    histogram.scatter_add_(1, place.flatten(1), weight.flatten(1))
    histogram = histogram / histogram.sum(dim=1, keepdim=True).clamp_min(1e-6)
    cos = _mean((2 * math.pi * off).cos(), weight, (2,))
    sin = _mean((2 * math.pi * off).sin(), weight, (2,))
    within = (cos**2 + sin**2).sqrt().mean(dim=1, keepdim=True)
    return torch.cat([histogram, tuning_spread(pitch, weight), within], dim=1)


def polyphony(weight: Tensor) -> Tensor:
    """Peaks that sound at once, ``(B, T, P)`` -> ``(B, 4)``: mean, spread, fewest (5 %), share of empty frames."""
    count = (weight > 0.05).float().sum(dim=2)
    few = quantiles(count.unsqueeze(1), (0.05,))[0, :, 0]
    return torch.stack([count.mean(dim=1), count.std(dim=1), few, (count < 2).float().mean(dim=1)], dim=1)


def salience(pitch: Tensor, weight: Tensor) -> Tensor:
    """Weight of each note 36..95 per frame ``(B, T, 60)``."""
    note = pitch.round().long() - 36
    inside = (note >= 0) & (note < 60)
    out = torch.zeros(*pitch.shape[:2], 60, dtype=weight.dtype, device=weight.device)
    return out.scatter_add_(2, note.clamp(0, 59), weight * inside)


def intervals(salience: Tensor) -> Tensor:
    """Share of each interval 1..13 semitones among notes that sound together, ``(B, T, 60)`` -> ``(B, 13)``."""
    both = [(salience[..., k:] * salience[..., :-k]).sum(dim=-1).sqrt() for k in range(1, 14)]
    stack = torch.stack(both, dim=2)
    total = stack.sum(dim=2, keepdim=True).clamp_min(1e-6)
    return (stack / total).mean(dim=1)


def key(chroma: Tensor) -> Tensor:
    """How much the notes keep to one key, ``(B, T, 12)`` -> ``(B, 8)``.

    Entropy of the clip's and of the mean frame's chroma; share inside the best major and the best harmonic minor
    scale; frames' spread and worst tenth of the share inside the better of the two; the leading gap over the next
    key; change of chroma from frame to frame.
    """
    frame = chroma / chroma.sum(dim=2, keepdim=True).clamp_min(1e-6)
    clip = chroma.sum(dim=1)
    clip = clip / clip.sum(dim=1, keepdim=True).clamp_min(1e-6)

    def entropy(p: Tensor) -> Tensor:
        return -(p * (p + 1e-9).log()).sum(dim=-1)

    scales = torch.zeros(24, 12, device=chroma.device)
    for root in range(12):
        scales[root, [(root + step) % 12 for step in MAJOR]] = 1
        scales[12 + root, [(root + step) % 12 for step in HARMONIC_MINOR]] = 1
    share = clip @ scales.T  # (B, 24)
    best = share.argmax(dim=1)
    inside = (frame @ scales.T).gather(2, best[:, None, None].expand(-1, frame.shape[1], 1)).squeeze(2)
    two = share.topk(2, dim=1).values
    stats = [
        entropy(clip), entropy(frame).mean(dim=1), share[:, :12].amax(dim=1), share[:, 12:].amax(dim=1),
        inside.std(dim=1), quantiles(inside.unsqueeze(1), (0.1,))[0, :, 0], two[:, 0] - two[:, 1],
        frame.diff(dim=1).abs().sum(dim=2).mean(dim=1),
    ]  # fmt: skip
    return torch.stack(stats, dim=1)


def bass_intervals(salience: Tensor) -> Tensor:
    """Chroma above the strongest low note, ``(B, T, 60)`` -> ``(B, 12)``: the intervals a chord makes with its bass."""
    low = salience[..., :24]
    note = low.argmax(dim=2)
    heard = (low.amax(dim=2) > 0.02).float()
    upper = salience[..., 24:].reshape(*salience.shape[:2], 3, 12).sum(dim=2)
    turn = (torch.arange(12, device=salience.device) + note.unsqueeze(2)) % 12
    above = upper.gather(2, turn)
    above = above / above.sum(dim=2, keepdim=True).clamp_min(1e-6)
    return _mean(above, heard.unsqueeze(2).expand_as(above), (1,))
