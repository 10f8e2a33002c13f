"""Ends: a command in a forked process, and the ways in which such a process ends before its work does."""

from __future__ import annotations

import mmap
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}
KINDS = (*SIGNALS, "full disk")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.chmod", "os.truncate"}
PATIENCE = 3600.0  # seconds after which a process hangs


@dataclass(frozen=True)
class End:
    """An end before the end.

    Attributes:
        kind: one of ``KINDS``.
        by: "operation": before the ``at``-th change of a file; "time": after ``at`` seconds.
        at: count from 0, or seconds of the process's clock.
        room: bytes that a file can have once the disk is full.
    """

    kind: str
    by: str
    at: float
    room: int = 0

    def __str__(self) -> str:
        place = f"file operation {self.at:.0f}" if self.by == "operation" else f"{self.at:.3f} s"
        return f"{self.kind} at {place}" + (f" with room for {self.room} bytes" if self.kind == "full disk" else "")


@dataclass(frozen=True)
class Ran:
    """What became of a process.

    Attributes:
        code: exit code, negative for a signal.
        said: both of its outputs.
        operations: changes of files below the folder that it made by Python.
        seconds: of its clock.
        hit: the end was reached before the work was done.
    """

    code: int
    said: str
    operations: int
    seconds: float
    hit: bool


def draw(rng: random.Random, whole: Ran) -> End:
    """A random end within an undisturbed run, as often between two file operations as anywhere in its time."""
    kind, by = rng.choice(KINDS), rng.choice(("operation", "time"))
    at = rng.randrange(max(1, whole.operations)) if by == "operation" else rng.uniform(0, whole.seconds)
    # none at all, or so much that a file ends in the middle
    return End(kind, by, at, rng.choice((0, rng.randrange(1, 1 << 16))))


def run(call: Callable[[], Any], folder: Path, end: End | None = None, wall: bool = False) -> Ran:
    """Run ``call`` in a forked process, whose result is its exit code, and end it as ``end`` says.

    The disk is made full by the kernel's limit on the size of files, which binds every writer in the process, C++ and
    Rust as well; its error is EFBIG in place of ENOSPC.

    Args:
        call: the command; this process must have one thread and must not have used what the command uses.
        folder: changes of files below it are counted.
        end: the end, if any.
        wall: the clock is the time that passes, for a command that waits for processes of its own; else it is what its
            main thread has computed, which other load does not move.
    """
    if threads := len(os.listdir("/proc/self/task")) - 1:
        raise RuntimeError(f"{threads} threads beside the main one: a fork would lose them (set OMP_NUM_THREADS=1)")
    reads, writes = os.pipe()
    marks = mmap.mmap(-1, 16)  # shared: operations so far, and whether the end was reached
    begin = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(call, folder, end if end is not None and end.by == "operation" else None, writes, marks)
    os.close(writes)
    os.set_blocking(reads, False)
    due = end if end is not None and end.by == "time" else None
    said, seconds, hit = bytearray(), 0.0, False
    while True:
        over = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        _drain(reads, said)
        if over:
            break
        passed = time.monotonic() - begin
        seconds = passed if wall else max(seconds, _computed(pid))
        if due and seconds >= due.at:
            hit, due = _strike(pid, due), None
        if passed > PATIENCE:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002 if due else 0.01)
    status = os.waitpid(pid, 0)[1]
    os.close(reads)
    operations, struck = struct.unpack("qq", marks[:])
    code = os.waitstatus_to_exitcode(status)
    return Ran(code, said.decode(errors="replace"), operations, seconds, hit or bool(struck))


def _drain(reads: int, said: bytearray) -> None:
    try:
        while data := os.read(reads, 1 << 16):
            said += data
    except BlockingIOError:
        pass


def _computed(pid: int) -> float:
    """Seconds that the main thread of a process has computed."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _strike(pid: int, end: End) -> bool:
    """End another process; False when it had already ended."""
    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        return False
    if end.kind == "full disk":
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (end.room, hard))
    else:
        os.kill(pid, SIGNALS[end.kind])
    return True


def _child(call: Callable[[], Any], folder: Path, end: End | None, writes: int, marks: mmap.mmap) -> NoReturn:
    """The forked process: as fresh as a new one, and counting."""
    code = 1
    try:
        os.setsid()
        os.dup2(writes, 1)
        os.dup2(writes, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1) for n in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # a new process has other global draws each time: no result may depend on them
        random.seed()
        _reseed()
        below, count = str(folder.resolve()) + os.sep, 0

        def look(event: str, args: tuple[Any, ...]) -> None:
            nonlocal count
            if event not in CHANGES or (event == "open" and not (args[2] or 0) & WRITES):
                return
            path = args[0]
            if isinstance(path, bytes):
                path = os.fsdecode(path)
            if not isinstance(path, str) or not path.startswith(below):
                return
            struck = end is not None and count == end.at
            count += 1
            marks[:] = struct.pack("qq", count, struct.unpack("qq", marks[:])[1] or struck)
            if struck:
                _strike(os.getpid(), end)  # type: ignore[arg-type]

        sys.addaudithook(look)
        code = call()
        code = code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    raise AssertionError


def _reseed() -> None:
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(int.from_bytes(os.urandom(4), "little"))
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(int.from_bytes(os.urandom(4), "little"))
