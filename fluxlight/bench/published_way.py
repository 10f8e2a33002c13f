"""The published way of running the same network: what the published code does, without its code (FACTS section 6).

Math attention kernel, convolutions on the transposed input, two forwards of everything for a guided step, the
condition projections among them, eager.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fluxlight.backbone.blocks import TimeConv
from fluxlight.bench.networks import twin
from fluxlight.model import FluxModel
from fluxlight.sample import grid, noise
from fluxlight.solvers import euler
from fluxlight.types import Condition, PromptBatch


class ChannelsFirst(TimeConv):
    """The same convolution by ``conv1d``, features before time."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, inputs)`` -> ``(B, N, outputs)``."""
        return nn.Conv1d.forward(self, x.transpose(1, 2)).transpose(1, 2)


def channels_first(model: FluxModel) -> FluxModel:
    """A model on the same parameters whose convolutions run channels first."""
    other = twin(model)
    for module in other.modules():
        if isinstance(module, TimeConv):
            module.__class__ = ChannelsFirst
    return other


@contextmanager
def math_attention() -> Iterator[None]:
    """Attention as matrix product, softmax, matrix product."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


class PublishedGuidance:
    """w v(x, t, text, s) + (1 - w) v(x, t, negative, null), each from scratch.

    Args:
        model: the model.
        condition: text ``(B, T, E)``, ``(B, C)``.
        score: of all clips.
        weight: w.
    """

    def __init__(self, model: FluxModel, condition: Condition, score: float, weight: float = 4.0) -> None:
        n = condition.text.shape[0]
        self.model, self.condition, self.weight = model, condition, weight
        self.negative, self.score = model.negative_condition(n), torch.full((n,), score, device=model.device)

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Guided velocity ``(B, L, D)``."""
        with math_attention():
            given = self.model.velocity(x, t, self.condition, self.score)
            return self.weight * given + (1 - self.weight) * self.model.velocity(x, t, self.negative)


@torch.no_grad()
def generate(model: FluxModel, prompts: PromptBatch, steps: int, score: float) -> Tensor:
    """Latents ``(B, L, D)`` in codec units; ``model`` is one of `channels_first`."""
    backbone = model.backbone
    x = noise(prompts.seed, backbone.latent_seq_len, backbone.latent_dim).to(model.device)
    guided = PublishedGuidance(model, Condition(prompts.text, prompts.text_c), score)
    return model.unnormalize(euler(guided, x, grid(steps)))
