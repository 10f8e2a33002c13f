"""Work: making what a plan needs, once: in this process or in several, each failure kept with its reason."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import yaml

from experiments.cells.plan import Work
from experiments.chain.run_folder import RunFolder
from experiments.chain.steps import clock
from fluxlight.files import hash_of, write_json, write_text

Report = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a work: ``state`` is done (``before``: in an earlier call), failed, or blocked by a failure."""

    state: str
    seconds: float = 0.0
    why: str = ""
    before: bool = False


def settled(out: Path, work: Work, retry: bool = False) -> Outcome | None:
    """The outcome of a work that needs no doing; None where something is left to do."""
    marker = RunFolder(out).read(work.name)
    if marker.get("state") == "failed" and marker["input_hash"] == hash_of(work.inputs) and not retry:
        return Outcome("failed", marker["seconds"], marker["why"], True)
    if RunFolder(out).state(work.name, work.inputs) == "done":
        return Outcome("done", marker["seconds"], "", True)
    return None


def do(out: Path, work: Work) -> Outcome:
    """Make one work; its words go to ``log.txt`` beside what it makes."""
    from fluxlight.cli import one_line

    run, folder = RunFolder(out), out / "work" / work.name
    state = run.state(work.name, work.inputs)
    run.start(work.name, work.inputs, [f"work/{work.name}"], wipe=state != "resume")
    if work.config is not None:
        write_text(folder / "cell.yaml", yaml.safe_dump(work.config, sort_keys=False, allow_unicode=True))
    begin = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with logged(folder / "log.txt"):
            for command in work.commands:
                print(command.line, flush=True)
                command.run()
        run.finish(work.name, work.inputs, work.outputs, time.monotonic() - begin)
    except Exception as error:
        if os.environ.get("FLUXLIGHT_DEBUG"):
            raise
        seconds = round(time.monotonic() - begin, 1)
        marker = {"state": "failed", "inputs": work.inputs, "input_hash": hash_of(work.inputs), "why": one_line(error)}
        write_json(run.marker(work.name), {**marker, "seconds": seconds})
        return Outcome("failed", seconds, one_line(error))
    return Outcome("done", round(time.monotonic() - begin, 1))


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Both outputs of this process in a file, appended: bars of dozens of cells are no reading."""
    with path.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield


def make_all(
    out: Path, works: Sequence[Work], jobs: int = 1, devices: Sequence[str] = (), retry: bool = False,
    report: Report = print,
) -> dict[str, Outcome]:  # fmt: skip
    """Bring every work to an end, those that are needed first.

    Args:
        out: folder of the experiments.
        works: in an order in which needs come first.
        jobs: processes; 1 works in this one.
        devices: values of CUDA_VISIBLE_DEVICES, one for each process in turn; empty leaves them alone.
        retry: try again what failed before.
        report: takes one line per work.
    """
    begin, total, found = time.monotonic(), len(works), {}
    waiting: list[Work] = []
    for work in works:
        known = settled(out, work, retry)
        if known is not None:
            found[work.name] = known
        else:
            waiting.append(work)
    report(f"{total} works, {total - len(waiting)} there already")

    def note(work: Work, outcome: Outcome) -> None:
        found[work.name] = outcome
        said = clock(outcome.seconds) if outcome.state == "done" else f"{outcome.state}: {outcome.why}"
        report(f"[{clock(time.monotonic() - begin)}] {len(found)}/{total} {work.name}  {said}")

    def ready() -> list[Work]:
        """Works whose needs are met; those of which a need has failed are settled at once."""
        for work in [w for w in waiting if any(found[n].state != "done" for n in w.needs if n in found)]:
            bad = next(n for n in work.needs if n in found and found[n].state != "done")
            waiting.remove(work)
            note(work, Outcome("blocked", 0.0, f"it needs {bad}, which {found[bad].state}: {found[bad].why}"))
            return ready()
        return [work for work in waiting if all(n in found for n in work.needs)]

    if jobs == 1 and len(devices) < 2:
        if devices:
            os.environ["CUDA_VISIBLE_DEVICES"] = devices[0]
        while todo := ready():
            waiting.remove(todo[0])
            note(todo[0], do(out, todo[0]))
        return found
    context = multiprocessing.get_context("spawn")
    seats = context.SimpleQueue()
    for k in range(jobs):
        seats.put(devices[k % len(devices)] if devices else "")
    running: dict[Future[Outcome], Work] = {}
    # one thread each: two processes of two threads on two cores wait for each other
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(jobs, context, _seat, (seats, threads)) as pool:
        try:
            while running or waiting:
                for work in ready():
                    waiting.remove(work)
                    running[pool.submit(do, out, work)] = work
                if not running:
                    break
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    note(running.pop(future), future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # a signal to this process alone would otherwise wait for hours of training
            for child in multiprocessing.active_children():
                if child.pid:
                    os.kill(child.pid, signal.SIGINT)
            raise
    return found


def _seat(seats: object, threads: int) -> None:
    """Start of a process: its device and its share of the cores."""
    device = seats.get()  # type: ignore[attr-defined]
    if device:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    import torch

    torch.set_num_threads(threads)
