"""Orphans: a process of a pool ends with the one that started it, and leaves its folders to the next call."""

from __future__ import annotations

import os
import threading
from multiprocessing import connection, parent_process


def end_with_parent() -> None:
    """End this process as soon as the one that spawned it is gone; a killed one cannot tell its workers to.

    Else a worker would go on for hours, hold its run folder, and the same command would find it in use. Nothing happens
    in a process that multiprocessing has not spawned.
    """
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
