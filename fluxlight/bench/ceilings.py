"""What this machine can do at best: matrix products and copies, the yardsticks of the other parts."""

from __future__ import annotations

import torch

from fluxlight.bench.measure import Line, Run, Settings, rate

SIZES = (1024, 2048, 4096)


def lines(settings: Settings, sizes: tuple[int, ...] = SIZES) -> list[Line]:
    """Best square matrix product and best copy; the former become ``settings.ceiling`` and its yardsticks."""
    cuda = settings.device.startswith("cuda")
    sizes = (*sizes, 8192) if cuda and sizes == SIZES else sizes
    out = []
    for dtype in (torch.float32, torch.bfloat16) if cuda else (torch.float32,):
        best, size = max((_measured(settings, n, dtype), n) for n in sizes)
        name = str(dtype).removeprefix("torch.")
        if dtype == torch.float32:
            settings.ceiling = best
        settings.yardsticks["fp32" if dtype == torch.float32 else "bf16"] = product(settings.device, size, dtype)
        what = f"{name} matrix product, {size} x {size} (best of {', '.join(map(str, sizes))})"
        out.append(Line("ceilings", what, rate(best), "1 (the ceiling)", {"flops_per_s": best, "dtype": name}))
    # larger than any cache: a core's share of a server's L3 can be hundreds of MiB
    floats = 2**28 if sizes == SIZES or cuda else 2**20
    settings.say("ceilings: copy")
    source = torch.ones(floats, device=settings.device)
    target = torch.empty_like(source)
    speed = 2 * 4 * floats / settings.seconds(lambda: target.copy_(source))
    what = f"copy of {4 * floats / 2**20:.0f} MiB, read and written"
    out.append(Line("ceilings", what, f"{speed / 1e9:.1f} GB/s", "", {"bytes_per_s": speed}))
    return out


def product(device: str, size: int, dtype: torch.dtype) -> tuple[Run, float]:
    """Square matrix products as a run, and its FLOPs."""
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=draw).to(device, dtype) for _ in range(2))
    out = torch.empty_like(a)
    # several in a row, so that a small product is not lost in the clock or, on a GPU, in the start of its kernels
    many = max(1, (4096 // size) ** 2)

    def run() -> None:
        for _ in range(many):
            torch.mm(a, b, out=out)

    return run, 2.0 * size**3 * many


def _measured(settings: Settings, size: int, dtype: torch.dtype) -> float:
    settings.say(f"ceilings: {str(dtype).removeprefix('torch.')} matrix product {size}")
    run, flops = product(settings.device, size, dtype)
    return flops / settings.seconds(run)
