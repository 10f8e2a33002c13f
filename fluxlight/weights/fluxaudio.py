"""Published FluxAudio checkpoints: the way in and the way out (names and shapes: FACTS section 6)."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from fluxlight.backbone.base import Backbone
from fluxlight.model import FluxModel
from fluxlight.weights.foreign import read_weights, unwrapped
from fluxlight.weights.strict import check_finite, check_fit, some

# tables that are computed, in files of some versions
_COMPUTED = {"latent_rot", "text_rot", "t_embed.freqs"}
RATES = {20: "16 kHz", 40: "44.1 kHz"}
"""Channels of a latent -> the published world they belong to."""
OVERLAYS = {20: "configs/worlds/published_16k.yaml", 40: "configs/worlds/published.yaml"}


class OtherFrequencies(UserWarning):
    """A score head was loaded from a file that does not say which frequencies it was trained with."""


def read_published(path: str | os.PathLike[str], average: bool = False) -> dict[str, Tensor]:
    """The state dict of a foreign file, a PyTorch or safetensors one; see `read_weights` for what is taken off it.

    Args:
        path: the file.
        average: take averaged weights where it has both kinds.
    """
    remedy = "fetch it again, or give the .pth file of the published weights"
    return read_weights(path, "FluxAudio checkpoint", remedy, average=average)


def sizes_of(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Settings of `FluxAudio` that its state dict tells: all but ``latent_seq_len`` and ``use_rope``.

    What a foreign state dict lacks is left out.
    """
    shape = {name: tuple(value.shape) for name, value in state.items()}
    found: dict[str, int] = {}
    for name, rank, sizes in (
        ("latent_mean", 3, {"latent_dim": 2}),
        ("empty_string_feat", 2, {"text_seq_len": 0, "text_dim": 1}),
        ("text_cond_proj.0.weight", 2, {"hidden_dim": 0, "text_c_dim": 1}),
        # a width that is a multiple of itself: the nominal one is not told
        ("text_cond_proj.1.w1.weight", 2, {"ffn_multiple": 0}),
    ):
        if len(shape.get(name, ())) == rank:
            found |= {size: shape[name][axis] for size, axis in sizes.items()}
    blocks = {match[0] for name in shape if (match := re.match(r"(joint|fused)_blocks\.\d+\.", name))}
    if blocks:
        found |= {"depth": len(blocks), "fused_depth": sum(block.startswith("fused") for block in blocks)}
    norm = next((shape[name] for name in shape if name.endswith("attn.q_norm.weight")), ())
    if norm and "hidden_dim" in found:
        found["num_heads"] = found["hidden_dim"] // norm[-1]
    return found


def load_published(
    model: FluxModel | Backbone,
    state_dict: Mapping[str, Tensor],
    head_prefix: str | None = None,
    source: str = "published checkpoint",
) -> None:
    """Fill ``model`` from a published state dict, strictly.

    Wrappers of names and computed tables are left out; ``empty_string_feat_c`` may be ``(C,)``, ``(1, C)`` or absent
    (then the model's own stays). A score head in the model keeps its weights unless ``head_prefix`` says where the
    checkpoint has them.

    Args:
        model: a backbone, or the model around one.
        state_dict: published names.
        head_prefix: what stands before ``embedder....``, or before the embedder's own ``mlp....``, in the checkpoint's
            names of a score head, which are not published; None for a text-only checkpoint.
        source: what an error calls the weights.
    """
    backbone = model.backbone if isinstance(model, FluxModel) else model
    state = {k: v for k, v in unwrapped(state_dict, source).items() if k not in _COMPUTED}
    check_finite(state, source, "it is damaged, fetch it again")
    _compare_sizes(backbone, state, source)
    name, text_c_dim = "empty_string_feat_c", backbone.text_c_dim
    if name in state and tuple(state[name].shape) == (1, text_c_dim):
        state[name] = state[name][0]
    of_head: dict[str, Tensor] = {}
    if head_prefix is not None:
        of_head = _of_head(model, state, head_prefix)
        state = {k: v for k, v in state.items() if not k.startswith(head_prefix)}
    check_fit(backbone, state, source, _remedy(backbone, state), may_miss=(name,))
    # both fit: nothing is half loaded
    backbone.load_state_dict(state, strict=False)
    if isinstance(model, FluxModel) and model.head is not None and of_head:
        model.head.load_state_dict(of_head, strict=False)


def _of_head(model: FluxModel | Backbone, state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What a checkpoint holds of the model's head, under the head's own names and of its sizes."""
    head = model.head if isinstance(model, FluxModel) else None
    theirs = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if head is None or not theirs:
        reason = "the model has no head" if head is None else "no name of the checkpoint starts with it"
        raise ValueError(f"head_prefix {prefix!r} is of no use: {reason}")
    if not any(name.startswith("embedder.") for name in theirs):
        theirs = {f"embedder.{name}": value for name, value in theirs.items()}
    drawn = "embedder.frequencies"
    check_fit(head, theirs, "published score head", "choose the head the checkpoint was trained with", (drawn,))
    if drawn not in theirs:
        warnings.warn(
            f"the checkpoint's score head under {prefix} stores no frequencies: this head's own are used, and a score "
            "means what it meant there only if they are the same",
            OtherFrequencies,
            stacklevel=3,
        )
    return theirs


def _remedy(backbone: Backbone, state: Mapping[str, Tensor]) -> str:
    """What to do about a checkpoint that does not fit; names beyond the backbone's are most likely a score head."""
    extra = sorted(set(state) - set(backbone.state_dict()))
    if not extra:
        return "give FluxAudio's weights, of the sizes of this backbone"
    first = extra[0].partition(".")[0] + "."
    return (
        f"if that is a score head, choose a head of its sizes and give head_prefix (--model.head_prefix {first}), or "
        f"leave it out with skip (--model.skip '[{first}]')"
    )


def _compare_sizes(backbone: Backbone, state: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights of another size by the settings that differ."""
    theirs = sizes_of(state)
    ours = sizes_of(backbone.state_dict())
    differ = [name for name in theirs if name in ours and theirs[name] != ours[name]]
    if not differ:
        return
    said = ", ".join(f"{name} {theirs[name]} (this model: {ours[name]})" for name in differ)
    channels = theirs.get("latent_dim", 0), ours.get("latent_dim", 0)
    if "latent_dim" in differ and set(channels) <= set(RATES):
        remedy = f"it is of {RATES[channels[0]]}, use --config {OVERLAYS[channels[0]]}, or {RATES[channels[1]]} weights"
    else:
        remedy = "set model.backbone to its sizes, or give weights of this model's"
    raise ValueError(f"{source} has {said}: {remedy}")


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
