"""What this machine can do at best: matrix products and copies, the yardsticks of the other parts."""

from __future__ import annotations

import torch

from fluxlight.bench.measure import Line, Settings, rate

SIZES = (1024, 2048, 4096)


def lines(settings: Settings, sizes: tuple[int, ...] = SIZES) -> list[Line]:
    """Best square matrix product and best copy; the former become ``settings.ceiling`` and ``half_ceiling``."""
    cuda = settings.device.startswith("cuda")
    sizes = (*sizes, 8192) if cuda and sizes == SIZES else sizes
    out = []
    for dtype in (torch.float32, torch.bfloat16) if cuda else (torch.float32,):
        best, size = max((_product(settings, n, dtype), n) for n in sizes)
        name = str(dtype).removeprefix("torch.")
        if dtype == torch.float32:
            settings.ceiling = best
        else:
            settings.half_ceiling = best
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


def _product(settings: Settings, size: int, dtype: torch.dtype) -> float:
    settings.say(f"ceilings: {str(dtype).removeprefix('torch.')} matrix product {size}")
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=draw).to(settings.device, dtype) for _ in range(2))
    out = torch.empty_like(a)
    # several in a row, so that a small product is not lost in the clock or, on a GPU, in the start of its kernels
    many = max(1, (4096 // size) ** 2)

    def run() -> None:
        for _ in range(many):
            torch.mm(a, b, out=out)

    return 2 * size**3 * many / settings.seconds(run)
