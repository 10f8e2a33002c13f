"""A small backbone with any head: sizes, the heads that are found, and weights that let no head pass by being zero."""

from __future__ import annotations

from collections.abc import Callable

import torch

import fluxlight.heads
from fluxlight.backbone import FluxAudio
from fluxlight.heads import ScoreHead
from fluxlight.model import FluxModel

B, L, D, T = 3, 11, 4, 5
FOUND = {c for c in vars(fluxlight.heads).values() if isinstance(c, type) and issubclass(c, ScoreHead)}
HEADS = sorted(FOUND - {ScoreHead}, key=lambda c: c.__name__)


def perturb(module: torch.nn.Module, seed: int) -> None:
    """Random values everywhere: the zero-initialised layers would let any head pass."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def backbone() -> FluxAudio:
    model = FluxAudio(
        latent_dim=D, text_dim=6, text_c_dim=7, hidden_dim=32, depth=3, fused_depth=1, num_heads=2,
        latent_seq_len=L, text_seq_len=T, ffn_multiple=16,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
        model.empty_string_feat.normal_(generator=generator)
        model.empty_string_feat_c.normal_(generator=generator)
    return model.eval()


def model_with(head: Callable[..., ScoreHead] | None, live: bool = True) -> FluxModel:
    model = FluxModel(backbone(), head)
    if live and model.head is not None:
        perturb(model.head, 2)
    return model
