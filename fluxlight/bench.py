"""What this machine makes of fluxlight: ``python -m fluxlight.bench [--threads N] [--markdown FILE]``.

Absolute seconds differ from machine to machine, so speed is given against this machine's own fp32 matrix product
(network; convolutions may beat it), as a multiple of real time (audio) or as a ratio within this run (statistics).
No test is timed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

Row = tuple[str, str, str]


def main(args: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write it to ``--markdown`` if given."""
    parser = argparse.ArgumentParser(prog="python -m fluxlight.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of torch (all cores)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each part, of which the median counts (5)")
    parser.add_argument("--markdown", type=Path, help="file for the table as well")
    given = parser.parse_args(args)
    if given.threads < 1 or given.repeats < 1:
        parser.error("--threads and --repeats must be at least 1")
    # read when torch is loaded: idle threads soon sleep instead of spinning
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    import torch

    torch.set_num_threads(given.threads)
    rows: list[Row] = []
    for part in (network, audio, distances):
        rows += part(given.repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows.append(("peak memory of this run", f"{peak:.2f} GiB", ""))
    head = f"fluxlight.bench: torch {torch.__version__}, {given.threads} threads, median of {given.repeats}"
    lines = ["| part | measured | as a share or ratio |", "| --- | ---: | ---: |"]
    table = "\n".join([head, "", *lines, *(f"| {a} | {b} | {c} |" for a, b, c in rows)])
    print(table)
    if given.markdown:
        from fluxlight.files import write_text

        write_text(given.markdown, table + "\n")
    return 0


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median wall time of ``run`` after one run that does not count."""
    run()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def network(repeats: int) -> list[Row]:
    """Forward, training step and guided sampling of the `tiny` backbone, against a 2048 x 2048 matrix product."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from fluxlight import flow
    from fluxlight.backbone import FluxAudio
    from fluxlight.heads import GlobalAdaLN
    from fluxlight.model import FluxModel
    from fluxlight.sample import Sampler
    from fluxlight.types import Condition, PromptBatch

    batch, length, dim = 16, 72, 64
    source = torch.Generator().manual_seed(0)
    square = torch.randn(2048, 2048, generator=source)
    yardstick = 2 * 2048**3 / seconds(lambda: square @ square, repeats)
    model = FluxModel(
        FluxAudio(
            latent_dim=dim, text_dim=384, text_c_dim=128, hidden_dim=128, depth=4, fused_depth=2, num_heads=4,
            latent_seq_len=length, text_seq_len=77, ffn_multiple=64,
        ),
        GlobalAdaLN,
    )  # fmt: skip
    x = torch.randn(batch, length, dim, generator=source)
    text = Condition(torch.randn(batch, 77, 384, generator=source), torch.randn(batch, 128, generator=source))
    t, score = torch.rand(batch, generator=source), torch.randn(batch, generator=source)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return model.velocity(x, t, text, score)

    def update() -> None:
        model.zero_grad()
        flow.per_sample_loss(model.velocity(x, t, text, score), x).mean().backward()

    prompts = PromptBatch([str(i) for i in range(batch)], [""] * batch, text.text, text.text_c, torch.arange(batch))
    sampler = Sampler(steps=10, score=1.0)

    def sample() -> torch.Tensor:
        with torch.no_grad():
            return sampler.generate(model, prompts)

    rows = [("fp32 matrix product", f"{yardstick / 1e9:.0f} GFLOP/s", "1 (the yardstick)")]
    parts: list[tuple[str, Callable[[], object]]] = [
        ("forward", forward),
        ("forward and backward", update),
        ("10 guided Euler steps", sample),
    ]
    for name, run in parts:
        with FlopCounterMode(display=False) as counter:
            run()
        took = seconds(run, repeats)
        share = counter.get_total_flops() / took / yardstick
        rows.append((f"tiny backbone, {batch} clips: {name}", f"{1000 * took:.0f} ms", f"{share:.2f} of the yardstick"))
    return rows


def audio(repeats: int) -> list[Row]:
    """Embedded codec, judges and loudness on ten-second clips, as multiples of real time."""
    import torch

    from fluxlight.codec import EmbeddedCodec
    from fluxlight.encoders import ClapA, ClapB
    from fluxlight.postprocess import Loudness
    from fluxlight.rewards import RewardA
    from fluxlight.types import Clip

    codec, clap_a, clap_b = EmbeddedCodec(), ClapA(), ClapB()
    reward = RewardA(clap=clap_a)
    clips, rate = 2, codec.sample_rate
    wave = 0.1 * torch.randn(clips, codec.clip_samples, generator=torch.Generator().manual_seed(0))
    latent = codec.encode(wave)[0]
    loudness = Loudness()
    parts: list[tuple[str, Callable[[], object]]] = [
        ("codec, encode", lambda: codec.encode(wave)),
        ("codec, decode", lambda: codec.decode(latent)),
        ("CLAP-A", lambda: clap_a.embed_audio(wave, rate)),
        ("CLAP-B", lambda: clap_b.embed_audio(wave, rate)),
        ("reward A with its CLAP and descriptors", lambda: reward.score(wave, rate, ["a calm waltz"] * clips)),
        ("loudness", lambda: [loudness(Clip(str(i), wave[i], rate)) for i in range(clips)]),
    ]
    length = codec.clip_samples / rate
    rows = []
    for name, run in parts:
        each = seconds(run, repeats) / clips
        rows.append((f"{name}, one clip", f"{1000 * each:.0f} ms", f"{length / each:.0f} x real time"))
    return rows


def distances(repeats: int) -> list[Row]:
    """2,000 joint resamples of a FAD difference, 512 dimensions, 100 against 700 clips: Gram form against direct."""
    import numpy as np

    from fluxlight.metrics import FrechetGram, fad_to, moments
    from fluxlight.metrics.resampling import distance_change

    source = np.random.default_rng(0)
    reference, first, second = (source.standard_normal((n, 512)) for n in (700, 100, 100))
    mean, covariance = moments(reference)

    def make(x: np.ndarray) -> FrechetGram:
        return FrechetGram(x, mean, covariance)

    whole = seconds(lambda: distance_change(make, first, second, resamples=2000), 1)
    direct = seconds(lambda: fad_to(first, mean, covariance), repeats)
    gram = make(first)
    counts = np.ones(100)
    fast = seconds(lambda: gram.distance(counts), repeats)
    ratio = f"one resample {direct / fast:.0f} x faster than direct"
    return [("FAD difference, 2,000 resamples and permutations", f"{whole:.1f} s", ratio)]


if __name__ == "__main__":
    raise SystemExit(main())
