"""Compiled: the blocks of the backbone are compiled when a run begins."""

from __future__ import annotations

from typing import Any

import lightning as L


class Compiled(L.Callback):
    """Compiles the backbone block by block: the first steps take minutes, the others less time each.

    Names, checkpoints and bundles stay what they are. An averaged copy of the model (`PowerEMA`) is not compiled.

    Args:
        backend: of ``torch.compile``; "inductor" needs a C++ compiler on a CPU, Triton on a GPU.
    """

    def __init__(self, backend: str = "inductor") -> None:
        self.backend = backend

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Compile, before the first batch."""
        pl_module.model.backbone.compile_blocks(self.backend)
