"""Where the time of a training step of FluxAudio-S goes, by kind of operation, and what keeps it off the ceiling."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from fluxlight.bench.measure import Line, Run, Settings, duration, operations_by_name, rate
from fluxlight.bench.networks import S44, Inputs, make, on_meta
from fluxlight.model import FluxModel

KINDS = (("attention", ("attention", "bmm")), ("convolutions", ("conv",)), ("linear layers", ("mm", "linear")))
"""Products, by what the names of their operations hold; the first that fits counts."""
REST = "norms, activations, modulation, copies"
UPDATE = "AdamW, fused"
BYTES = 28
"""What AdamW moves for one fp32 weight: four values read (weight, gradient, two moments), three written."""


def lines(settings: Settings, sizes: dict[str, Any] = S44) -> Iterator[Line]:
    """One line for each kind of operation in each phase of the step, then the whole step."""
    cuda = settings.device.startswith("cuda")
    model = make(sizes, settings.device)
    for batch in settings.batches or (64 if cuda else 4,):
        settings.say(f"training: a step of {_clips(batch)}, profiled{', bf16' * cuda}")
        yield from _report(settings, model, batch, _flops(sizes, batch))


def _report(settings: Settings, model: FluxModel, batch: int, flops: Counter[tuple[str, str]]) -> Iterator[Line]:
    precision = "bf16" if settings.device.startswith("cuda") else "fp32"
    product, product_flops = settings.yardsticks[precision]
    spent: dict[tuple[str, str], float] = defaultdict(float)
    phases, yardstick = _phases(model, Inputs(model, batch), precision == "bf16"), 0.0
    for turn in range(1 + settings.repeats):
        took = settings.timed(product)
        found = [line for name, run in phases.items() for line in _profiled(settings, name, run)]
        if turn:
            yardstick += took
            for key, seconds in found:
                spent[key] += seconds
    ceiling, step = product_flops * settings.repeats / yardstick, sum(spent.values()) / settings.repeats
    missing = step - flops.total() / ceiling
    for key, total in spent.items():
        took, ideal = total / settings.repeats, flops[key] / ceiling
        share = f"{took / step:.0%} of the step, {max(took - ideal, 0) / missing:.0%} of what is missing"
        if ideal:
            share += f"; {ideal / took:.2f} of the ceiling, {rate(flops[key] / took)}"
        elif key == ("update", UPDATE):
            moved = BYTES * sum(parameter.numel() for parameter in model.parameters())
            share += f"; moves {moved / took / 1e9:.1f} GB/s"
        data = {"phase": key[0], "kind": key[1], "batch": batch, "seconds": took, "ideal_seconds": ideal}
        yield Line("training", f"training step, {_clips(batch)}, {key[0]}: {key[1]}", duration(took), share, data)
    reached = flops.total() / step / ceiling
    yield Line(
        "training",
        f"training step, {_clips(batch)}, {precision}, profiled",
        duration(step),
        f"{reached:.2f} of the ceiling; what is missing: {duration(missing)}",
        {"phase": "step", "batch": batch, "seconds": step, "share_of_ceiling": reached, "missing_seconds": missing},
    )


def _clips(count: int) -> str:
    return f"{count} clip{'s' * (count > 1)}"


def _phases(model: FluxModel, data: Inputs, half: bool) -> dict[str, Run]:
    # the rate is 0, so that the weights stay what they are
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    kept: list[torch.Tensor] = []

    def forward() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            kept.append(data.loss(model))

    return {"forward": forward, "backward": lambda: kept.pop().backward(), "update": optimizer.step}


def _profiled(settings: Settings, phase: str, run: Run) -> Iterator[tuple[tuple[str, str], float]]:
    """Seconds of each kind; what no operation accounts for, the interpreter's share, is among the rest."""
    cuda = settings.device.startswith("cuda")
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]) as profiler:
        begin = time.perf_counter()
        run()
        settings.wait()
        wall = time.perf_counter() - begin
    if phase == "update":
        yield (phase, UPDATE), wall
        return
    found: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        if event.device_type == DeviceType.CPU:
            found[_kind(event.key)] += (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6
    found[REST] = wall - sum(value for kind, value in found.items() if kind != REST)
    yield from (((phase, kind), value) for kind, value in found.items())


def _kind(name: str) -> str:
    return next((kind for kind, parts in KINDS if any(part in name for part in parts)), REST)


def _flops(sizes: dict[str, Any], batch: int) -> Counter[tuple[str, str]]:
    """FLOPs of each kind in each phase; the score head's share, a millionth, is left out."""
    backbone, inputs = on_meta(sizes)
    forward = _by_kind(lambda: backbone(*inputs))
    both = _by_kind(lambda: backbone(*inputs).mean().backward())
    phases = {"forward": forward, "backward": both - forward}
    return Counter({(name, kind): batch * flops for name, found in phases.items() for kind, flops in found.items()})


def _by_kind(run: Run) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for name, flops in operations_by_name(run).items():
        kinds[_kind(name)] += flops
    return kinds
