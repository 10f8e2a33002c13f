"""Embedded codec, judges and loudness on ten-second clips, as multiples of real time."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from fluxlight.bench.measure import Line, Run, Settings, duration


def lines(settings: Settings, clips: int = 2) -> Iterator[Line]:
    """Seconds of one clip in each part, on the CPU."""
    from fluxlight.codec import EmbeddedCodec
    from fluxlight.encoders import ClapA, ClapB
    from fluxlight.postprocess import Loudness
    from fluxlight.rewards import RewardA
    from fluxlight.types import Clip

    codec, clap_a, clap_b = EmbeddedCodec(), ClapA(), ClapB()
    reward, loudness = RewardA(clap=clap_a), Loudness()
    rate = codec.sample_rate
    wave = 0.1 * torch.randn(clips, codec.clip_samples, generator=torch.Generator().manual_seed(0))
    latent = codec.encode(wave)[0]
    parts: list[tuple[str, Run]] = [
        ("codec, encode", lambda: codec.encode(wave)),
        ("codec, decode", lambda: codec.decode(latent)),
        ("CLAP-A", lambda: clap_a.embed_audio(wave, rate)),
        ("CLAP-B", lambda: clap_b.embed_audio(wave, rate)),
        ("reward A with its CLAP and descriptors", lambda: reward.score(wave, rate, ["a calm waltz"] * clips)),
        ("loudness", lambda: [loudness(Clip(str(i), wave[i], rate)) for i in range(clips)]),
    ]
    length = codec.clip_samples / rate
    for name, run in parts:
        settings.say(f"audio: {name}")
        each = settings.seconds(run) / clips
        data = {"seconds_a_clip": each, "times_real_time": length / each}
        yield Line("audio", f"{name}, one clip", duration(each), f"{length / each:.0f} x real time", data)
