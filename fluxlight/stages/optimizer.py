"""The published optimiser, and what of a model is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn
from torch.optim import AdamW


def published_adamw(parameters: Iterable[Tensor]) -> AdamW:
    """AdamW at 1e-4, betas (0.9, 0.95), eps 1e-6, weight decay 1e-6 (FACTS section 3)."""
    return AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), eps=1e-6, weight_decay=1e-6)


def freeze_but(model: nn.Module, prefixes: Sequence[str]) -> None:
    """Freeze every parameter of ``model`` whose name begins with none of ``prefixes``."""
    names = dict(model.named_parameters())
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise ValueError(f"model.train_only: no parameter begins with {prefix!r}: head. and backbone. are there")
    for name, parameter in names.items():
        parameter.requires_grad_(name.startswith(tuple(prefixes)))
