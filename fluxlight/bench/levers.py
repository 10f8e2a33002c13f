"""What each means of going faster gives on FluxAudio-S: the same work with one of them taken away, in turns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from fluxlight.bench import published_way
from fluxlight.bench.measure import Line, Run, Settings, duration
from fluxlight.bench.networks import S44, Inputs, compiled, make
from fluxlight.guidance import guide
from fluxlight.model import FluxModel

T, SCORE, BETA = 0.5, 5.0, 0.999


def lines(settings: Settings, sizes: dict[str, Any] = S44) -> Iterator[Line]:
    """A guided step of sampling at two batch sizes, then the optimiser's and the average's update."""
    model, cuda = make(sizes, settings.device), settings.device.startswith("cuda")
    for batch in settings.batches or (1, 64 if cuda else 8 if settings.full else 4):
        runs = _steps(model, Inputs(model, batch), cuda)
        if settings.full:
            runs["and compiled"] = _steps(compiled(model), Inputs(model, batch), cuda)["as it is"]
        yield from _compare(settings, f"guided step, {batch} clip{'s' * (batch > 1)}{', bf16' * cuda}", runs)
    # the last: it trains the weights
    yield from _compare(settings, "AdamW update", _optimizers(model))
    yield from _compare(settings, "average of the weights, update", _averages(model))


def _steps(model: FluxModel, data: Inputs, half: bool = False) -> dict[str, Run]:
    guided = {j: guide(model, data.condition, SCORE, joined=j) for j in (None, False, True)}
    other = guided[not guided[None].joined]
    twin = published_way.channels_first(model)
    first = guide(twin, data.condition, SCORE)
    published = published_way.PublishedGuidance(twin, data.condition, SCORE)

    def math() -> Tensor:
        with published_way.math_attention():
            return guided[None](data.x, T)

    def apart() -> Tensor:
        positive, negative = (model.velocity(data.x, T, branch) for branch in guided[None].branches.values())
        return 4.0 * positive - 3.0 * negative

    runs: dict[str, Run] = {
        "as it is": lambda: guided[None](data.x, T),
        "math attention": math,
        "convolutions channels first": lambda: first(data.x, T),
        "input projection for each branch, branches apart": apart,
        f"branches {'joined' if other.joined else 'apart'}": lambda: other(data.x, T),
        "conditions projected in every step": lambda: guide(model, data.condition, SCORE)(data.x, T),
        "the published way": lambda: published(data.x, T),
    }
    return {name: _within(half, run) for name, run in runs.items()}


def _within(half: bool, run: Run) -> Run:
    def wrapped() -> object:
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=half):
            return run()

    return wrapped


def _optimizers(model: FluxModel) -> dict[str, Run]:
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    ways = {"fused": {"fused": True}, "foreach": {"foreach": True}, "one by one": {"foreach": False}}
    return {name: torch.optim.AdamW(parameters, lr=0.0, **way).step for name, way in ways.items()}  # type: ignore[arg-type]


def _averages(model: FluxModel) -> dict[str, Run]:
    def one(average: Tensor, current: Tensor, _n: Any) -> Tensor:
        return average * BETA + current * (1 - BETA)

    def all_together(average: Any, current: Any, _n: Any) -> None:
        torch._foreach_lerp_(average, current, 1 - BETA)

    first, second = AveragedModel(model, avg_fn=one), AveragedModel(model, multi_avg_fn=all_together)
    return {"foreach": lambda: second.update_parameters(model), "one by one": lambda: first.update_parameters(model)}


def _compare(settings: Settings, what: str, runs: dict[str, Run]) -> Iterator[Line]:
    settings.say(f"levers: {what}: {', '.join(runs)}")
    times = settings.alternate(runs)
    base = next(iter(times.values()))
    for name, took in times.items():
        yield Line(
            "levers",
            f"{what}: {name}",
            duration(took),
            f"{took / base:.2f} of the first",
            {"kind": what, "way": name, "seconds": took, "of_first": took / base},
        )
