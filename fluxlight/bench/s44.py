"""FluxAudio-S at 44.1 kHz: forward, training step and guided sampling, our way and the published way, in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from fluxlight.bench import published_way
from fluxlight.bench.measure import FEW, Line, Run, Settings, duration, rate
from fluxlight.bench.networks import S44, Inputs, Work, compiled, make
from fluxlight.model import FluxModel
from fluxlight.sample import Sampler

STEPS, SCORE = 25, 5.0


def lines(settings: Settings, sizes: dict[str, Any] = S44) -> Iterator[Line]:
    """Every measurement with its FLOPs, its share of the ceiling and its share of the published way's time."""
    cuda = settings.device.startswith("cuda")
    usual = ((1, 4, 8, 64, 100) if settings.full else (1, 64)) if cuda else (1, 4, 8)
    settings.say("s44: counting operations")
    work = Work.of(sizes)
    clip = {"forward": work.forward, "training": work.training, "sampling_25": work.sampling(STEPS)}
    said = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in clip.items())
    yield Line("s44", "GFLOP a clip, counted", said, "", {f"flops_{k}": v for k, v in clip.items()})
    for half in (False, True) if cuda else (False,):
        model = make(sizes, settings.device)
        published = published_way.channels_first(model)
        ways: dict[str, FluxModel] = {"eager": model, "published": published}
        if settings.full:
            ways["compiled"] = compiled(model)
        for batch in settings.batches or usual:
            # torch gives up on compiling one function for ever more batch sizes
            torch.compiler.reset()
            for kind, measure in (("forward", forward), ("training step", training), ("sampling", sampling)):
                yield from measure(settings, ways, Inputs(model, batch), batch, half, kind, work)


def forward(
    settings: Settings, ways: dict[str, FluxModel], data: Inputs, batch: int, half: bool, kind: str, work: Work
) -> Iterator[Line]:
    """One velocity of each clip, every way."""
    def run(name: str, model: FluxModel) -> Run:
        return lambda: _within(name, half, lambda: data.forward(model))

    yield from _report(settings, {n: run(n, m) for n, m in ways.items()}, batch, half, kind, batch * work.forward)


def training(
    settings: Settings, ways: dict[str, FluxModel], data: Inputs, batch: int, half: bool, kind: str, work: Work
) -> Iterator[Line]:
    """A training step, every way: forward, backward, AdamW."""
    # the weights are shared by all ways; the rate is 0, so that they stay what they are
    parameters = list(ways["eager"].parameters())
    optimizers = {
        "ours": torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.95), eps=1e-6, weight_decay=1e-6, fused=True),
        "published": torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.95), eps=1e-6, weight_decay=1e-6),
    }

    def run(name: str, model: FluxModel) -> Run:
        optimizer = optimizers["published" if name == "published" else "ours"]

        def step() -> None:
            optimizer.zero_grad()
            _within(name, half, lambda: data.backward(model))
            optimizer.step()

        return step

    yield from _report(settings, {n: run(n, m) for n, m in ways.items()}, batch, half, kind, batch * work.training)


def sampling(
    settings: Settings, ways: dict[str, FluxModel], data: Inputs, batch: int, half: bool, kind: str, work: Work
) -> Iterator[Line]:
    """Guided latents, every way."""
    steps = STEPS if settings.full else FEW

    def run(name: str, model: FluxModel, steps: int) -> Run:
        sampler = Sampler(steps=steps, score=SCORE)
        if name == "published":
            return lambda: _within("", half, lambda: published_way.generate(model, data.prompts, steps, SCORE))
        return lambda: _within("", half, lambda: sampler.generate(model, data.prompts))

    runs, first = ({n: run(n, m, k) for n, m in ways.items()} for k in (steps, 1))
    flops = batch * work.sampling(steps)
    yield from _report(settings, runs, batch, half, f"{kind}, {STEPS} steps", flops, STEPS / steps, first)


def _within(name: str, half: bool, run: Callable[[], Any]) -> None:
    precision: AbstractContextManager[Any] = torch.autocast("cuda", torch.bfloat16) if half else nullcontext()
    attention: AbstractContextManager[Any] = published_way.math_attention() if name == "published" else nullcontext()
    with precision, attention:
        run()


def _report(
    settings: Settings,
    runs: dict[str, Run],
    batch: int,
    half: bool,
    kind: str,
    flops: int,
    scale: float = 1.0,
    first: dict[str, Run] | None = None,
) -> Iterator[Line]:
    precision = "bf16" if half else "fp32"
    settings.say(f"s44: {kind}, {batch} clips, {precision}: {', '.join(runs)}")
    product, product_flops = settings.yardsticks[precision]
    # sampling is many forwards already, so one turn of it counts
    times = settings.alternate(
        {"product": product, **runs},
        1 if kind.startswith("sampling") else None,
        None if first is None else {"product": product, **first},
    )
    ceiling = product_flops / times.pop("product")
    for name, took in times.items():
        share, against = flops / took / ceiling, took / times["published"]
        # the published way does more: its share of the ceiling is of the work that is needed, like ours
        yield Line(
            "s44",
            f"{kind}, {batch} clip{'s' * (batch > 1)}, {precision}, {'published way' if name == 'published' else name}",
            f"{duration(scale * took)}" + (f" ({round(STEPS / scale)} steps timed)" if scale != 1 else ""),
            f"{share:.2f} of the ceiling, {rate(flops / took)}; {against:.2f} of the published way",
            {
                "kind": kind, "batch": batch, "precision": precision, "way": name, "seconds": scale * took,
                "flops": scale * flops, "ceiling": ceiling, "share_of_ceiling": share, "of_published": against,
            },
        )  # fmt: skip
