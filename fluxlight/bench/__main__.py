"""``python -m fluxlight.bench [--only network,s44] [--short] [--json FILE] [--markdown FILE]``: speed on this machine.

``--plan`` turns it into an estimate of what the whole chain costs on 1, 8 and 64 such devices.

Absolute seconds differ from machine to machine, so speed is given against this machine's own matrix product
(networks; convolutions may beat it), against the published way of running the same network, as a multiple of real
time (audio) or as a ratio within this run (statistics).
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fluxlight.bench.measure import FEW, Line, Settings
from fluxlight.cli.arguments import Arguments, within

if TYPE_CHECKING:
    from fluxlight.bench.plan import Speed

PARTS = {
    "network": "the tiny backbone",
    "tiny": "the phases of the chain at the scale tiny, one by one",
    "s44": "FluxAudio-S at 44.1 kHz: forward, training step, guided sampling, beside the published way",
    "levers": "FluxAudio-S at 44.1 kHz: what each means of going faster gives, one by one",
    "training": "FluxAudio-S at 44.1 kHz: where the time of a training step goes",
    "store": "the latent store beside one npz a clip: bytes, random rows, opening 535,000 rows",
    "audio": "embedded codec, judges, loudness",
    "metrics": "statistics of the table",
}


def main(args: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write it to ``--markdown`` and ``--json`` if given."""
    known = "; ".join(f"{name}: {what}" for name, what in PARTS.items())
    parser = Arguments(
        prog="python -m fluxlight.bench", description="Speed of fluxlight on this machine.", epilog=f"Parts: {known}."
    )
    parser.add_argument("--only", default=",".join(PARTS), metavar="PARTS", help="parts to run, commas between (all)")
    parser.add_argument(
        "--short",
        action="store_true",
        help=f"{FEW} of the 25 sampling steps, nothing compiled, fewer batch sizes on a GPU",
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of torch (all cores)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each measurement, of which the median counts (3)"
    )
    parser.add_argument(
        "--device", default="auto", help="where the networks run: cpu, cuda, or auto for the GPU if any"
    )
    parser.add_argument(
        "--batches",
        type=_sizes,
        default=(),
        metavar="SIZES",
        help="batch sizes of FluxAudio-S, commas between (each part's own)",
    )
    parser.add_argument("--gpu", action="store_true", help="every goal there is for a GPU, and nothing else")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--markdown", type=Path, help="file for the table as well")
    plan = parser.add_argument_group("what the chain costs (--plan)")
    plan.add_argument(
        "--plan", type=Path, nargs="?", const=Path("configs/chain/full.yaml"), metavar="CHAIN",
        help="estimate the hours of a chain (configs/chain/full.yaml)",
    )  # fmt: skip
    plan.add_argument("--measured", type=Path, metavar="JSON", help="--json of an earlier run: nothing is measured")
    plan.add_argument("--devices", type=_sizes, default=(1, 8, 64), metavar="SIZES", help="how many devices (1,8,64)")
    plan.add_argument("--clips", type=within(1), default=535_000, help="of the training set (535000)")
    plan.add_argument("--clips-a-caption", type=within(1, kind=float), default=10.0, metavar="N", help="(10)")
    plan.add_argument(
        "--bandwidth", type=within(1e-3, kind=float), default=25.0, metavar="GB/S",
        help="at which devices add up gradients: 25 is one 200 Gbit/s link (our choice)",
    )  # fmt: skip
    given = parser.parse_args(args)
    if given.plan and given.measured:
        from fluxlight.bench.plan import read_speed

        return _plan(given, read_speed(given.measured))
    if given.plan:
        given.only = "s44"
    parts = [name for name in given.only.split(",") if name]
    if strangers := [name for name in parts if name not in PARTS]:
        parser.error(f"--only: no part {', '.join(strangers)}: choose among {', '.join(PARTS)}")
    if given.threads < 1 or given.repeats < 1:
        parser.error("--threads and --repeats must be at least 1")
    # read when torch is loaded: idle threads soon sleep instead of spinning
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    # and the profiler tells of its start and end
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    import torch

    from fluxlight.device import chosen

    place = chosen(given.device)
    if given.gpu:
        if not place.startswith("cuda"):
            print("fluxlight.bench --gpu: torch sees no GPU here, so nothing was measured; its goals are a training "
                  "step of 64 clips, the latents of 100 prompts, memory, and a step of every stage")  # fmt: skip
            return 0
        parts = ["goals"]
    if place.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {place}: torch sees no such device")
    torch.set_num_threads(given.threads)
    settings = Settings(given.repeats, not given.short, place, given.batches)
    found = _lines(["ceilings", *parts], settings)
    device = torch.cuda.get_device_name(place) if place.startswith("cuda") else f"{given.threads} threads"
    if given.plan:
        from fluxlight.bench.plan import Speed

        return _plan(given, Speed.of([{"part": line.part, **line.data} for line in found], device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found.append(Line("memory", "peak memory of this run", f"{peak:.2f} GiB", "", {"gib": peak}))
    head = f"fluxlight.bench: torch {torch.__version__}, {device}, median of {given.repeats}"
    table = "\n".join([head, "", *_table(found)])
    print(table)
    from fluxlight.files import write_json, write_text

    if given.markdown:
        write_text(given.markdown, table + "\n")
    if given.json:
        frame = {"torch": torch.__version__, "device": device, "threads": given.threads, "repeats": given.repeats}
        rows = [{"part": line.part, "what": line.what, **line.data} for line in found]
        write_json(given.json, {**frame, "full": not given.short, "lines": rows})
    return 0


def _plan(given: argparse.Namespace, speed: Speed) -> int:
    """Print the estimate, and write it to ``--markdown`` and ``--json`` if given."""
    from fluxlight.bench.plan import report
    from fluxlight.files import write_json, write_text

    wide = given.bandwidth * 1e9
    lines, found = report(given.plan, speed, given.devices, given.clips, given.clips_a_caption, wide)
    print("\n".join(lines))
    if given.markdown:
        write_text(given.markdown, "\n".join(lines) + "\n")
    if given.json:
        rows = [{"what": cost.what, "work": cost.work, "seconds": list(cost.seconds)} for cost in found]
        write_json(given.json, {"device": speed.device, "devices": list(given.devices), "steps": rows})
    return 0


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in text.split(",") if size)
    if not sizes or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"batch sizes are whole numbers from 1, commas between, not {text!r}")
    return sizes


def _lines(parts: Iterable[str], settings: Settings) -> list[Line]:
    return [line for part in parts for line in importlib.import_module(f"fluxlight.bench.{part}").lines(settings)]


def _table(lines: Iterable[Line]) -> list[str]:
    rows = [f"| {line.what} | {line.measured} | {line.share} |" for line in lines]
    return ["| part | measured | as a share or ratio |", "| --- | ---: | ---: |", *rows]


if __name__ == "__main__":
    raise SystemExit(main())
