"""Claims: a folder belongs to the run that writes to it, and what a killed one left half written is cleared."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

HALF = "half-"
"""In the name of every temporary file: a user's ``.env.template`` is none of ours."""
BEGINNING = 40
"""Letters of a file's name that its temporary one has."""


def claim(folder: str | os.PathLike[str], rooms: Sequence[str] | None = None) -> FileLock:
    """Take a run folder for this process; ``release`` gives it back, and so does the end of the process.

    Temporary files that a killed run left in it are removed. Where the file system knows no locks, nothing is checked.

    Args:
        folder: made when absent.
        rooms: folders in it, "" for itself, to which this run alone writes; None: everything below it.

    Raises:
        ValueError: another run is writing there.
    """
    path = Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    # a lock object per call: two runs within one process exclude each other, too
    lock = FileLock(path, blocking=False, is_singleton=False)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"{folder} is in use by another run: wait for it, or choose another folder") from None
    except NotImplementedError:
        return lock
    _clear(path.parent, rooms)
    return lock


@contextmanager
def claimed(folder: str | os.PathLike[str], rooms: Sequence[str] | None = None, make: bool = False) -> Iterator[None]:
    """Have a folder for this process within the block (`claim`); one that is not there is made, or is not taken."""
    path = Path(folder)
    if not path.is_dir() and (path.exists() or not make):
        yield  # whoever reads it says what is wrong with it
        return
    begun = not path.exists()
    lock = claim(path, rooms)
    try:
        yield
    finally:
        lock.release()
        if begun and [one.name for one in path.iterdir()] == [".lock"]:
            # what was begun for nothing is not left behind
            shutil.rmtree(path, ignore_errors=True)


def _clear(folder: Path, rooms: Sequence[str] | None) -> None:
    """Remove the temporary files that a killed run left: the lock says that nobody writes them.

    A folder within that has a lock of its own is left to its owner.
    """
    theirs = {lock.parent for lock in folder.rglob(".lock")} - {folder} if rooms is None else set()
    found: Iterable[Path] = folder.rglob(".*")
    if rooms is not None:
        found = [path for room in rooms for path in (folder / room).glob(".*")]
    for path in found:
        if theirs.intersection(path.parents):
            continue
        named = re.fullmatch(rf"\.(.+)\.{HALF}[a-z0-9_]{{8}}(\.\w+)?", path.name)
        # of a long name only the beginning is there, without its ending
        ours = named and (len(named[1]) == BEGINNING or Path(named[1]).suffix == (named[2] or ""))
        if ours and path.is_file():
            path.unlink(missing_ok=True)
