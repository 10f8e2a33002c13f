"""The phases of the chain at the scale `tiny`, one by one: seconds of a unit, and its share of the matrix product.

A phase that is no matrix product (a corpus is synthesised, loudness is filtered) has no share; one far below 1 is where
time can still be found.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from fluxlight.bench.measure import Line, Run, Settings, duration, operations
from fluxlight.bench.networks import TINY, Inputs, Work, make
from fluxlight.sample import Sampler

BATCH, STEPS, WEIGHT = 16, 10, 2.0
"""Clips of an update, solver steps and guidance of the scale (configs/scales/tiny.yaml, configs/base.yaml)."""


def lines(settings: Settings, clips: int = 2) -> Iterator[Line]:
    """One line a phase, on the CPU, where this scale runs.

    Args:
        settings: of the benchmark; its ceiling is the yardstick.
        clips: clips of a measurement of the phases that take clips one by one.
    """
    for phase, (unit, units, run, flops) in _phases(clips).items():
        settings.say(f"tiny: {phase}")
        took = settings.seconds(run)
        work = operations(run) if flops is None else flops
        reached = work / took / settings.ceiling
        share = f"{reached:.2f} of the ceiling" if work else "no matrix product"
        data = {"phase": phase, "unit": unit, "seconds": took / units, "flops": work / units}
        yield Line("tiny", f"{phase}, a {unit}", duration(took / units), share, {**data, "share_of_ceiling": reached})


def _phases(clips: int) -> dict[str, tuple[str, int, Run, int | None]]:
    """Phase -> unit, units of a run, the run, and its FLOPs where they are known without counting."""
    from fluxlight.codec import EmbeddedCodec
    from fluxlight.embedded.corpus.build import make_clip
    from fluxlight.encoders import ClapA, ClapB, MiniLM
    from fluxlight.postprocess import Loudness
    from fluxlight.rewards import RewardA, RewardB
    from fluxlight.types import Clip

    torch.manual_seed(0)
    made = [make_clip(0, "train", k, 0.4) for k in range(clips)]
    audio = torch.stack([torch.from_numpy(sound).float() for _, sound in made])
    captions = [row.caption for row, _ in made]
    codec, text, clap_a, clap_b, reward_a, reward_b = EmbeddedCodec(), MiniLM(), ClapA(), ClapB(), RewardA(), RewardB()
    model = make(TINY, "cpu")
    work, train, prompts = Work.of(TINY), Inputs(model, BATCH), Inputs(model, BATCH).prompts
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    sampler = Sampler(steps=STEPS, cfg_weight=WEIGHT)
    rate, loudness = codec.sample_rate, Loudness()
    with torch.no_grad():
        latents = codec.encode(audio)[0]

    def update() -> None:
        optimizer.zero_grad()
        train.backward(model)
        optimizer.step()

    def quiet(run: Run) -> Run:
        def within() -> None:
            with torch.no_grad():
                run()

        return within

    def judge() -> None:
        for clap in (clap_a, clap_b):
            clap.embed_audio(audio, rate)
        for reward in (reward_a, reward_b):
            reward.score(audio, rate, captions)

    def corpus() -> None:
        for k in range(clips):
            make_clip(0, "train", k, 0.4)

    def read() -> None:
        text.encode(captions)
        clap_a.embed_text(captions)

    return {
        "corpus: compose and synthesise": ("clip", clips, corpus, 0),
        "store: audio to latents": ("clip", clips, quiet(lambda: codec.encode(audio)), None),
        "store: caption to tokens and CLAP-A": ("clip", clips, quiet(read), None),
        "store: reward A": ("clip", clips, quiet(lambda: reward_a.score(audio, rate, captions)), None),
        "reference: CLAP-B": ("clip", clips, quiet(lambda: clap_b.embed_audio(audio, rate)), None),
        "training": ("update", 1, update, BATCH * work.training),
        "a row: sampling": ("clip", BATCH, lambda: sampler.generate(model, prompts), BATCH * work.sampling(STEPS)),
        "a row: latents to audio": ("clip", clips, quiet(lambda: codec.decode(latents)), None),
        "a row: loudness": ("clip", clips, lambda: [loudness(Clip("", wave, rate)) for wave in audio], 0),
        "table: all judges": ("clip", clips, quiet(judge), None),
    }  # fmt: skip
