"""How the benchmark measures: wall time on any device, counted operations, and one line of its table."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Run = Callable[[], object]
FEW = 5
"""Steps of sampling that a short run times; the figure is scaled, as every step costs the same."""


@dataclass(frozen=True)
class Line:
    """One row of the table.

    Attributes:
        part: which part of the benchmark it belongs to.
        what: what was run.
        measured: time or rate, as printed.
        share: share of a ceiling, ratio, or multiple of real time, as printed.
        data: the same as numbers, for the JSON.
    """

    part: str
    what: str
    measured: str
    share: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass
class Settings:
    """What every part is told.

    Attributes:
        repeats: runs of each measurement, of which the median counts.
        full: all sizes, all 25 steps and compiled networks too.
        device: where the networks run.
        batches: batch sizes of the networks; empty for those that each part chooses.
        ceiling: the best fp32 matrix product, FLOP/s; measured before the parts run.
        yardsticks: the best matrix product in fp32 (and in bf16 on a GPU) as a run and its FLOPs: timed in turns with
            what is held against it, since a machine that others share is not equally fast at all times.
        begin: when the benchmark began, for the progress.
    """

    repeats: int = 3
    full: bool = False
    device: str = "cpu"
    batches: tuple[int, ...] = ()
    ceiling: float = 1.0
    yardsticks: dict[str, tuple[Run, float]] = field(default_factory=dict)
    begin: float = field(default_factory=time.perf_counter)

    def say(self, what: str) -> None:
        """One line of progress."""
        print(f"{time.perf_counter() - self.begin:6.0f} s  {what}", file=sys.stderr, flush=True)

    def seconds(self, run: Run, repeats: int | None = None) -> float:
        """Median wall time of ``run`` after one run that does not count."""
        return self.alternate({"it": run}, repeats)["it"]

    def alternate(
        self, runs: Mapping[str, Run], repeats: int | None = None, first: Mapping[str, Run] | None = None
    ) -> dict[str, float]:
        """Median wall time of each run after one that does not count, in turns: a machine that slows down hits all.

        Args:
            runs: what is timed, by name.
            repeats: turns that count; None is the setting's.
            first: what to run in the turn that does not count, where less than the whole run warms up as well.
        """
        times: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(1 + (repeats or self.repeats)):
            for name, run in runs.items():
                took = self.timed(run if turn or first is None else first[name])
                if turn:
                    times[name].append(took)
        return {name: statistics.median(found) for name, found in times.items()}

    def timed(self, run: Run) -> float:
        """Wall time of one ``run``."""
        self.wait()
        begin = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - begin

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self.device)


def operations(run: Run) -> int:
    """FLOPs of ``run``, all together: see :func:`operations_by_name`."""
    return sum(operations_by_name(run).values())


def operations_by_name(run: Run) -> dict[str, int]:
    """FLOPs of ``run`` (one multiply-add is two) by operation; run it on the meta device, where it costs nothing.

    Attention is counted as the two matrix products of its plain form: the counter does not know the fused kernel of
    the CPU.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return {str(operation): flops for operation, flops in counter.get_flop_counts()["Global"].items()}


def duration(seconds: float) -> str:
    """Seconds in three digits or so."""
    return (
        f"{seconds:.2f} s"
        if seconds >= 1
        else f"{1000 * seconds:.0f} ms"
        if seconds >= 0.01
        else f"{1e6 * seconds:.0f} us"
    )


def rate(per_second: float) -> str:
    """FLOP/s in words."""
    return f"{per_second / 1e12:.1f} TFLOP/s" if per_second >= 1e13 else f"{per_second / 1e9:.0f} GFLOP/s"
