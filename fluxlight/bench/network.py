"""The `tiny` backbone: forward, gradients and guided sampling of a batch, against the machine's matrix product."""

from __future__ import annotations

from collections.abc import Iterator

from fluxlight.bench.measure import Line, Run, Settings, duration
from fluxlight.bench.networks import TINY, Inputs, Work, make
from fluxlight.sample import Sampler


def lines(settings: Settings, batch: int = 16, steps: int = 10) -> Iterator[Line]:
    """Three lines for a batch of the size that `tiny` trains with."""
    model, work = make(TINY, settings.device), Work.of(TINY)
    data, sampler = Inputs(model, batch), Sampler(steps=steps, score=1.0)
    parts: list[tuple[str, Run, int]] = [
        ("forward", lambda: data.forward(model), work.forward),
        ("forward and backward", lambda: data.backward(model), work.training),
        (f"{steps} guided Euler steps", lambda: sampler.generate(model, data.prompts), work.sampling(steps)),
    ]
    for name, run, flops in parts:
        settings.say(f"network: {name}")
        took = settings.seconds(run)
        share = batch * flops / took / settings.ceiling
        data_ = {"batch": batch, "seconds": took, "flops": batch * flops, "share_of_ceiling": share}
        what = f"tiny backbone, {batch} clips: {name}"
        yield Line("network", what, duration(took), f"{share:.2f} of the ceiling", data_)
