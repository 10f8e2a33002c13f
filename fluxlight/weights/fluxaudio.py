"""Published FluxAudio checkpoints: the way in and the way out (names and shapes: FACTS section 6)."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from fluxlight.backbone.base import Backbone
from fluxlight.model import FluxModel
from fluxlight.weights.foreign import read_weights
from fluxlight.weights.strict import check_finite, load_strict, some

_EMA = "ema_model."
# tables that are computed, and counters of the averaging, in files of some versions
_COMPUTED = {"latent_rot", "text_rot", "t_embed.freqs", "initted", "step"}
_CONTAINERS = ("weights", "state_dict", "model", "ema")


def read_published(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict of a foreign .pth or .pt file, read with ``weights_only=True``; containers are opened."""
    return read_weights(
        path, "FluxAudio checkpoint", "fetch it again, or give the .pth file of the published weights", _CONTAINERS
    )


def load_published(
    model: FluxModel | Backbone,
    state_dict: Mapping[str, Tensor],
    head_prefix: str | None = None,
    source: str = "published checkpoint",
) -> None:
    """Fill ``model`` from a published state dict, strictly.

    Plain or ``ema_model.``-prefixed names are taken; computed tables and the average's counters are left out;
    ``empty_string_feat_c`` may be ``(C,)``, ``(1, C)`` or absent (then the model's own stays). A score head in the
    model keeps its weights unless ``head_prefix`` says where the checkpoint has them.

    Args:
        model: a backbone, or the model around one.
        state_dict: published names.
        head_prefix: what stands before ``embedder....`` in the checkpoint's names of a score head, which are not
            published; None for a text-only checkpoint.
        source: what an error calls the weights.
    """
    backbone = model.backbone if isinstance(model, FluxModel) else model
    state = dict(state_dict)
    if any(k.startswith(_EMA) for k in state):
        state = {k.removeprefix(_EMA): v for k, v in state.items() if k.startswith(_EMA)}
    state = {k: v for k, v in state.items() if k not in _COMPUTED}
    check_finite(state, source, "it is damaged, fetch it again")
    name, text_c_dim = "empty_string_feat_c", backbone.text_c_dim
    if name in state and tuple(state[name].shape) == (1, text_c_dim):
        state[name] = state[name][0]
    if head_prefix is not None:
        head = model.head if isinstance(model, FluxModel) else None
        theirs = {k.removeprefix(head_prefix): v for k, v in state.items() if k.startswith(head_prefix)}
        if head is None or not theirs:
            reason = "the model has no head" if head is None else "no name of the checkpoint starts with it"
            raise ValueError(f"head_prefix {head_prefix!r} is of no use: {reason}")
        load_strict(head, theirs, "published score head", "choose the head the checkpoint was trained with")
        state = {k: v for k, v in state.items() if not k.startswith(head_prefix)}
    load_strict(
        backbone,
        state,
        source,
        "give FluxAudio's weights, of the sizes of this backbone, and head_prefix if they hold a score head",
        may_miss=(name,),
    )


def export_published(model: FluxModel | Backbone, head_prefix: str | None = None) -> dict[str, Tensor]:
    """The state dict of ``model`` under the published names, on the CPU.

    A score head goes out under ``head_prefix``; its published names are not public, so a model with a head needs
    one: nothing is left behind silently. To export the backbone alone, pass ``model.backbone``.
    """
    backbone = model.backbone if isinstance(model, FluxModel) else model
    state = dict(backbone.state_dict())
    head = model.head if isinstance(model, FluxModel) else None
    if head is not None:
        if head_prefix is None:
            raise ValueError(
                f"the model has a score head ({some(list(head.state_dict()))}) without published names: "
                "give head_prefix, or export model.backbone"
            )
        state.update({head_prefix + k: v for k, v in head.state_dict().items()})
    return {k: v.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for k, v in state.items()}
