"""The published optimiser."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.optim import AdamW


def published_adamw(parameters: Iterable[Tensor]) -> AdamW:
    """AdamW at 1e-4, betas (0.9, 0.95), eps 1e-6, weight decay 1e-6 (FACTS section 3)."""
    return AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), eps=1e-6, weight_decay=1e-6)
