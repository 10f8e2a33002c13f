"""Damage: known faults of rising strength, done to a clip. All grades are our choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Ladder:
    """A kind of damage with its steps from mild to strong.

    Attributes:
        title: what it is, for a heading.
        unit: of a step.
        steps: strengths.
        apply: (audio ``(N,)``, Hz, step, generator) -> audio ``(N,)``; None for damage to captions.
        worse: measures that must get worse from step to step; "distance" stands for FAD and KAD, "clap" and "reward"
            for every CLAP and reward. What is not named here or in ``flat`` is shown without a demand.
        flat: measures that must not move under locked loudness.
    """

    title: str
    unit: str
    steps: tuple[float, ...]
    apply: Callable[[Audio, int, float, np.random.Generator], Audio] | None
    worse: tuple[str, ...] = ()
    flat: tuple[str, ...] = ()


def _rms(audio: Audio) -> float:
    return float(np.sqrt(np.mean(audio.astype(np.float64) ** 2)))


def white_noise(audio: Audio, rate: int, snr: float, rng: np.random.Generator) -> Audio:
    """The clip with white noise ``snr`` dB below it."""
    noise = rng.standard_normal(audio.size, dtype=np.float32)
    return audio + noise * np.float32(_rms(audio) * 10 ** (-snr / 20))


def clipping(audio: Audio, rate: int, threshold: float, rng: np.random.Generator) -> Audio:
    """The clip cut off at ``threshold`` times its RMS."""
    level = np.float32(threshold * _rms(audio))
    return np.clip(audio, -level, level)


def low_pass(audio: Audio, rate: int, cutoff: float, rng: np.random.Generator) -> Audio:
    """The clip without what lies above ``cutoff`` Hz (Butterworth, order 4)."""
    from scipy import signal

    sections = signal.butter(4, min(cutoff, 0.49 * rate), fs=rate, output="sos")
    return signal.sosfilt(sections, audio.astype(np.float64)).astype(np.float32)


def gain(audio: Audio, rate: int, decibel: float, rng: np.random.Generator) -> Audio:
    """The clip ``decibel`` louder."""
    return audio * np.float32(10 ** (decibel / 20))


def time_shuffle(audio: Audio, rate: int, seconds: float, rng: np.random.Generator) -> Audio:
    """The clip cut into pieces of ``seconds`` in random order; each fades over 5 ms, lest clicks betray the cuts."""
    length = max(1, round(seconds * rate))
    ends = list(range(length, audio.size, length))
    pieces = np.split(audio, ends)
    out = []
    for k in rng.permutation(len(pieces)):
        fade = np.ones(pieces[k].size, dtype=np.float32)
        edge = min(round(0.005 * rate), fade.size // 2)
        if edge:
            fade[:edge] = np.linspace(0, 1, edge, dtype=np.float32)
            fade[-edge:] = fade[:edge][::-1]
        out.append(pieces[k] * fade)
    return np.concatenate(out)


LADDERS: dict[str, Ladder] = {
    "white_noise": Ladder("white noise", "dB SNR", (40, 30, 20, 10, 0), white_noise, ("distance", "reward")),
    "clipping": Ladder("clipping", "x RMS", (3, 1.5, 0.8, 0.4, 0.2), clipping, ("distance", "reward")),
    "low_pass": Ladder("low-pass", "Hz", (8000, 4000, 2000, 1000, 500), low_pass, ("distance", "reward")),
    "gain": Ladder("gain", "dB", (-3, -6, -12, -20, -30), gain, (), ("distance", "mad", "diversity", "clap", "reward")),
    "time_shuffle": Ladder("time shuffle", "s pieces", (2, 1, 0.5, 0.25, 0.1), time_shuffle),
    "wrong_captions": Ladder(
        "wrong captions", "of clips", (0.2, 0.4, 0.6, 0.8, 1), None, ("clap",), ("distance", "mad", "diversity")
    ),
}
"""Every ladder by its name. Low-pass, noise and clipping ladders of the published reward are monotone (FACTS section 5
says so of noise and clipping); that a reward falls with wrong captions is not demanded, since it need not read them."""


def damaged(name: str, step: float, audio: Audio, rate: int, seed: int) -> Audio:
    """A clip ``(N,)`` on a step of a ladder; the random draws depend on ladder and ``seed`` alone, not on the step."""
    ladder = LADDERS[name]
    if ladder.apply is None:
        return audio
    return ladder.apply(audio, rate, step, np.random.default_rng([seed, list(LADDERS).index(name)]))


def wrong_caption(share: float, n: int) -> list[int]:
    """Whose caption each of n clips carries: ``share`` of them another clip's; a stronger step keeps the milder one's.

    Raises:
        ValueError: one clip alone has no other's caption to carry.
    """
    if n < 2:
        raise ValueError(f"wrong captions: n = {n} clips, at least 2 are needed")
    order = np.random.default_rng(n).permutation(n)
    chosen = order[: round(share * n)]
    owner = np.arange(n)
    # the next clip's caption along a random round trip: never the own one, and the same one on every step
    owner[chosen] = np.roll(order, -1)[: len(chosen)]
    return owner.tolist()
