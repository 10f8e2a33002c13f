"""Where frozen models run when they are asked to choose."""

from __future__ import annotations

import torch


def chosen(device: str) -> str:
    """``device`` as torch names it; ``auto`` is the GPU where there is one, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
