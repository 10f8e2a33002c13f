"""What the project wants of a GPU, a goal a line: a training step, a slice of latents, memory, a step of every stage.

All of it is FluxAudio-S at 44.1 kHz in bf16, beside the published way of computing the same. On a CPU the same code
runs in fp32 at whatever sizes it is given.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from fluxlight import flow, losses
from fluxlight.bench import s44
from fluxlight.bench.measure import Line, Run, Settings, duration
from fluxlight.bench.networks import S44, Inputs, Work, make, twin
from fluxlight.bench.published_way import channels_first
from fluxlight.losses import PolicyLoss, PreferenceLoss
from fluxlight.model import FluxModel
from fluxlight.recorded import names_of

BATCH, PROMPTS, PAIRS = 64, 100, 8
"""Clips of a training step and prompts of the slice (FACTS sections 3 and 4), pairs of a step (FACTS section 10)."""


def lines(
    settings: Settings, sizes: dict[str, Any] = S44, batch: int = BATCH, prompts: int = PROMPTS, pairs: int = PAIRS
) -> Iterator[Line]:
    """Every goal with what it needs: seconds, share of the ceiling, share of the published way's time, memory."""
    half, work, model = settings.device.startswith("cuda"), Work.of(sizes), make(sizes, settings.device)
    ways: dict[str, FluxModel] = {"eager": model, "published": channels_first(model)}
    for kind, clips, measure in (("training step", batch, s44.training), ("sampling", prompts, s44.sampling)):
        found = list(measure(settings, ways, Inputs(model, clips), clips, half, kind, work))
        yield from (replace(line, part="goals") for line in found)
    yield from memory(settings, model, batch, prompts, half)
    yield from stages(settings, model, pairs, half)


def memory(settings: Settings, model: FluxModel, batch: int, prompts: int, half: bool) -> Iterator[Line]:
    """Peak memory of a training step with its optimiser, and of drawing latents."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    train, draw = Inputs(model, batch), Inputs(model, prompts)

    def step() -> None:
        optimizer.zero_grad()
        with _precision(half):
            loss = train.loss(model)
        loss.backward()
        optimizer.step()

    def sample() -> None:
        with _precision(half), torch.no_grad():
            model.velocity(draw.x, draw.t, draw.condition, draw.score)

    for what, run in ((f"training step of {batch} clips", step), (f"a step of sampling, {prompts} prompts", sample)):
        settings.say(f"goals: memory of {what}")
        peak = _peak(settings, run)
        yield Line("goals", f"peak memory, {what}", f"{peak / 2**30:.2f} GiB", "", {"what": what, "bytes": peak})
    optimizer.zero_grad()


def stages(settings: Settings, model: FluxModel, pairs: int, half: bool) -> Iterator[Line]:
    """A step of every stage: flow matching on as many clips, each preference loss and each policy loss on pairs."""
    frozen = twin(model)
    winner, loser = Inputs(model, pairs), Inputs(model, pairs)
    both = Inputs(model, 2 * pairs)

    def predicted(data: Inputs, by: FluxModel) -> flow.Prediction:
        x_t = flow.interpolate(data.x, winner.noise, winner.t)
        velocity = by.velocity(x_t, winner.t, data.condition, winner.score)
        return flow.Prediction(velocity, flow.target(data.x, winner.noise))

    def preference(loss: PreferenceLoss) -> torch.Tensor:
        policy = [predicted(data, model) for data in (winner, loser)]
        with torch.no_grad():
            reference = [predicted(data, frozen) for data in (winner, loser)]
        return loss(*policy, *reference)[0]

    def policy(loss: PolicyLoss) -> torch.Tensor:
        total = torch.zeros((), device=model.device)
        for data, sign in ((winner, 1.0), (loser, -1.0)):
            said = predicted(data, model)
            with torch.no_grad():
                start = predicted(data, frozen).velocity
            advantage = torch.full_like(winner.t, sign)
            total = total + 0.5 * loss(said.velocity, start, start, said.target, advantage, winner.t)[0]
        return total

    def step(loss: Any, of: Any) -> Run:
        def run() -> None:
            model.zero_grad()
            with _precision(half):
                value = of(loss)
            value.backward()

        return run

    runs = {"flow matching (SFT, expert iteration)": step(both, lambda data: data.loss(model))}
    for base, of in ((PreferenceLoss, preference), (PolicyLoss, policy)):
        for name in names_of(losses, (base,)):
            made = getattr(losses, name)()
            if base is PreferenceLoss and made.auto:
                made.adapt(1.0)
            runs[name] = step(made, of)
    settings.say(f"goals: a step of every stage, {pairs} pairs: {', '.join(runs)}")
    times = settings.alternate(runs)
    model.zero_grad()
    plain = next(iter(times.values()))
    for name, took in times.items():
        clips = f"{2 * pairs} clips" if took is plain else f"{pairs} pairs"
        share = f"{took / plain:.2f} of flow matching on as many clips"
        yield Line("goals", f"forward and backward, {clips}, {name}", duration(took), share,
                   {"stage": name, "pairs": pairs, "seconds": took, "of_plain": took / plain})  # fmt: skip


def _precision(half: bool) -> AbstractContextManager[Any]:
    return torch.autocast("cuda", torch.bfloat16) if half else nullcontext()


def _peak(settings: Settings, run: Run) -> int:
    """Bytes: of a GPU what the run has held at most, of a CPU what the process has."""
    if not settings.device.startswith("cuda"):
        run()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    run()  # what is allocated once is there
    torch.cuda.reset_peak_memory_stats(settings.device)
    run()
    settings.wait()
    return torch.cuda.max_memory_allocated(settings.device)
