"""The networks that are measured, and what is fed to them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fluxlight import flow
from fluxlight.backbone import FluxAudio
from fluxlight.bench.measure import operations
from fluxlight.heads.global_adaln import GlobalAdaLN
from fluxlight.model import FluxModel
from fluxlight.types import Condition, PromptBatch

TINY: dict[str, Any] = dict(
    latent_dim=64, text_dim=384, text_c_dim=128, hidden_dim=128, depth=4, fused_depth=2, num_heads=4,
    latent_seq_len=72, text_seq_len=77, ffn_multiple=64,
)  # fmt: skip
"""The embedded backbone of the scale `tiny`."""
S44: dict[str, Any] = dict(
    latent_dim=40, text_dim=1024, text_c_dim=512, hidden_dim=448, depth=12, fused_depth=8, num_heads=7,
    latent_seq_len=430, text_seq_len=77,
)  # fmt: skip
"""FluxAudio-S at 44.1 kHz (FACTS section 6)."""


def make(sizes: dict[str, Any], device: str) -> FluxModel:
    """A model with a v1 head and random weights everywhere: an untrained one would compute with zeros."""
    model = FluxModel(FluxAudio(**sizes), GlobalAdaLN)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=draw))
    return model.to(device)


def twin(model: FluxModel) -> FluxModel:
    """Another model on the same parameters and buffers."""
    shared = {id(value): value for value in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, dict(shared))


def compiled(model: FluxModel) -> FluxModel:
    """A model on the same parameters whose blocks are compiled.

    What was compiled before is forgotten: torch compiles a function only so many times, then runs it eager.
    """
    torch.compiler.reset()
    other = twin(model)
    other.backbone.compile_blocks()
    return other


def on_meta(sizes: dict[str, Any]) -> tuple[FluxAudio, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """A backbone and its inputs (latent, t, text_f, text_f_c) for one clip on the meta device: nothing is computed."""
    with torch.device("meta"):
        backbone = FluxAudio(**sizes)
        x = torch.empty(1, backbone.latent_seq_len, backbone.latent_dim)
        text, text_c = torch.empty(1, backbone.text_seq_len, backbone.text_dim), torch.empty(1, backbone.text_c_dim)
        return backbone, (x, torch.empty(1), text, text_c)


@dataclass(frozen=True)
class Work:
    """FLOPs of a network for one clip; the score head's share, a millionth, is left out.

    Attributes:
        forward: a whole forward.
        training: forward, loss and gradients.
        input: of the forward, the input projection, which the branches of guidance share.
        text: of the forward, the condition projections, which a sampling run needs once.
    """

    forward: int
    training: int
    input: int
    text: int

    def sampling(self, steps: int) -> int:
        """Guided sampling with what can be shared shared."""
        return steps * (2 * self.forward - self.input - 2 * self.text) + 2 * self.text

    @classmethod
    def of(cls, sizes: dict[str, Any]) -> Work:
        """Counted on the meta device, where nothing is computed."""
        backbone, (x, t, text, text_c) = on_meta(sizes)
        with torch.no_grad():
            forward = operations(lambda: backbone(x, t, text, text_c))
            input = operations(lambda: backbone.embed_latent(x))
            projections = operations(lambda: backbone.project_text(text, text_c))
        return cls(forward, operations(lambda: backbone(x, t, text, text_c).mean().backward()), input, projections)


class Inputs:
    """A batch for a model: latents, times, texts and scores, and the same as prompts.

    Args:
        model: for its sizes and its device.
        batch: number of clips.
    """

    def __init__(self, model: FluxModel, batch: int) -> None:
        backbone, draw = model.backbone, torch.Generator().manual_seed(1)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=draw).to(model.device)

        self.x = normal(batch, backbone.latent_seq_len, backbone.latent_dim)
        self.noise = normal(batch, backbone.latent_seq_len, backbone.latent_dim)
        self.t = torch.sigmoid(normal(batch))
        text = normal(batch, backbone.text_seq_len, backbone.text_dim)
        self.condition = Condition(text, normal(batch, backbone.text_c_dim))
        self.score = normal(batch)
        seeds = torch.arange(42, 42 + batch)
        self.prompts = PromptBatch(
            [str(i) for i in range(batch)], ["a calm waltz"] * batch, text, self.condition.text_c, seeds
        )

    @torch.no_grad()
    def forward(self, model: FluxModel) -> Tensor:
        """One velocity."""
        return model.velocity(self.x, self.t, self.condition, self.score)

    def backward(self, model: FluxModel) -> None:
        """Loss and gradients."""
        self.loss(model).backward()

    def loss(self, model: FluxModel) -> Tensor:
        """The flow-matching loss of the batch."""
        x_t = flow.interpolate(self.x, self.noise, self.t)
        velocity = model.velocity(x_t, self.t, self.condition, self.score)
        return flow.per_sample_loss(velocity, flow.target(self.x, self.noise)).mean()
