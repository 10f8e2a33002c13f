"""A small model with a score head, and prompts for it."""

from __future__ import annotations

import pytest
import torch
from small_heads import D, T, model_with

from fluxlight.heads import GlobalAdaLN
from fluxlight.model import FluxModel
from fluxlight.types import PromptBatch


def prompts(n: int) -> PromptBatch:
    draw = torch.Generator().manual_seed(5)
    text, text_c = torch.randn(n, T, 6, generator=draw), torch.randn(n, 7, generator=draw)
    return PromptBatch([f"p{i}" for i in range(n)], ["x"] * n, text, text_c, torch.arange(n) + 42)


@pytest.fixture(scope="module")
def model() -> FluxModel:
    made = model_with(GlobalAdaLN)
    made.set_latent_statistics(torch.arange(D) - 1.5, torch.arange(D) + 0.5)
    made.set_negative(torch.ones(T, 6), -torch.ones(7))
    return made
