"""Where models run: the device that is asked for, and what several processes know together."""

from __future__ import annotations

from typing import Any

import torch


def chosen(device: str) -> str:
    """``device`` as torch names it; ``auto`` is the GPU where there is one, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def gather(items: list[Any]) -> list[Any]:
    """The items of all processes on every process, in the order of the processes; a collective call."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return items
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]
