"""The runner of chain and experiments: tasks in the order of their needs, in one process or several."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from experiments.chain.run_folder import State


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        state: done, failed, or blocked by a failure.
        seconds: how long it took.
        why: it failed, or is blocked.
        before: done in an earlier call.
        found: what was left of an earlier call, where it was looked at.
    """

    state: str
    seconds: float = 0.0
    why: str = ""
    before: bool = False
    found: State | None = None


class Task(Protocol):
    """Something to be made from what other tasks have made."""

    @property
    def name(self) -> str:
        """What others need it by."""

    @property
    def needs(self) -> Sequence[str]:
        """Names of tasks that come first; those that are not run here are taken for done."""


T = TypeVar("T", bound=Task)


def bring_all(
    tasks: Sequence[T], do: Callable[[T], Outcome], note: Callable[[T, Outcome], None], jobs: int = 1,
    devices: Sequence[str] = (), known: Mapping[str, Outcome] | None = None,
) -> dict[str, Outcome]:  # fmt: skip
    """Bring every task to an end; what needs a failed one is blocked, everything else is made.

    Args:
        tasks: in an order in which needs come first.
        do: makes one; with several processes it is sent to them, so it must be picklable, and so must the tasks.
        note: told of each task that ends, in this process.
        jobs: processes; 1 works in this one.
        devices: values of CUDA_VISIBLE_DEVICES, one for each process in turn; empty leaves them alone.
        known: outcomes of tasks that need no doing.
    """
    found = dict(known or {})
    waiting = [task for task in tasks if task.name not in found]
    here = {task.name for task in tasks} | set(found)

    def end(task: T, outcome: Outcome) -> None:
        found[task.name] = outcome
        note(task, outcome)

    def ready() -> list[T]:
        """Tasks whose needs are met; those of which a need has failed are settled at once."""
        for task in waiting:
            bad = next((n for n in task.needs if n in found and found[n].state != "done"), None)
            if bad is not None:
                waiting.remove(task)
                end(task, Outcome("blocked", 0.0, f"it needs {bad}, which {found[bad].state}: {found[bad].why}"))
                return ready()
        return [task for task in waiting if all(n in found or n not in here for n in task.needs)]

    if jobs == 1 and len(devices) < 2:
        if devices:
            os.environ["CUDA_VISIBLE_DEVICES"] = devices[0]
        while todo := ready():
            waiting.remove(todo[0])
            end(todo[0], do(todo[0]))
        return found
    context = multiprocessing.get_context("spawn")
    seats = context.SimpleQueue()
    for k in range(jobs):
        seats.put(devices[k % len(devices)] if devices else "")
    running: dict[Future[Outcome], T] = {}
    # two processes of two threads on two cores wait for each other
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(jobs, context, _seat, (seats, threads)) as pool:
        try:
            while running or waiting:
                for task in ready():
                    waiting.remove(task)
                    running[pool.submit(do, task)] = task
                if not running:
                    break
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    end(running.pop(future), future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # a signal to this process alone would otherwise wait for hours of training
            for child in multiprocessing.active_children():
                if child.pid:
                    os.kill(child.pid, signal.SIGINT)
            raise
    return found


def _seat(seats: Any, threads: int) -> None:
    """Start of a process: its device and its share of the cores."""
    device = seats.get()
    if device:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    import torch

    from fluxlight.files.orphans import end_with_parent

    end_with_parent()
    torch.set_num_threads(threads)
