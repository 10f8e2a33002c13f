"""A published FluxAudio checkpoint, one file, as a generator: the way from a ``.pth`` to audio."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fluxlight import heads
from fluxlight.backbone import FluxAudio
from fluxlight.bundle import Which, bundle_hash, published_state
from fluxlight.codec import Codec
from fluxlight.generate.generator import Generator
from fluxlight.generate.pipeline import Notice, world_of
from fluxlight.heads.base import ScoreHead
from fluxlight.model import FluxModel
from fluxlight.recorded import find_class, names_of
from fluxlight.weights.fluxaudio import load_published, sizes_of

NEGATIVE = "noise, distortion, low quality, static, hum, hiss, clipping, muffled, amateur recording"
"""Text that the published system leads away from (FACTS section 4); a published file stores none."""


def from_published(
    path: str | Path,
    head: str | None = None,
    head_prefix: str | None = None,
    skip: Sequence[str] = (),
    weights: Which = "raw",
    device: str | torch.device = "cpu",
) -> Generator:
    """The generator of a published file: its sizes are read off its weights, and the world of codec and texts off them.

    Args:
        path: a PyTorch or safetensors file under the published names.
        head: name of the score head to fill, of `fluxlight.heads` or a class path; needs ``head_prefix``.
        head_prefix: what stands before the head's names in the file.
        skip: prefixes of names that are not taken: those of a score head that is to be left out.
        weights: averaged ones are taken first where the file has both and this says ``ema``.
        device: where it computes.

    Raises:
        ValueError: not FluxAudio's weights, or of sizes that belong to no world here.
    """
    state = published_state(path, skip, weights)
    sizes: dict[str, Any] = dict(sizes_of(state))
    named = [sizes.get(name) for name in ("text_dim", "text_c_dim", "latent_dim")]
    if None in named or not {"hidden_dim", "depth", "num_heads", "ffn_multiple"} <= sizes.keys():
        first = next(iter(state), "nothing")
        raise ValueError(f"{path} holds no FluxAudio weights (it begins with {first}): give a file of them")
    pipeline = world_of(tuple(named))
    if pipeline is None:
        raise ValueError(
            f"{path} has texts of {named[0]} and {named[1]} features and latents of {named[2]}, which belong to no "
            "encoders and codec known here: train from it with --model.init_from, and export that"
        )
    kind = None if head is None else _head(head)
    if kind is None:
        pipeline = replace(pipeline, sampler=replace(pipeline.sampler, score=None))

    def filled(codec: Codec) -> FluxModel:
        # the one size that no weight tells is the codec's
        model = FluxModel(FluxAudio(**sizes, latent_seq_len=codec.latent_len), kind)
        load_published(model, state, head_prefix, str(path))
        return model

    made = Generator.assembled(filled, pipeline, bundle_hash(path), device)
    made.set_negative(NEGATIVE)
    sampler = made.sampler
    warnings.warn(
        Notice(
            f"{path} is a file of FluxAudio of width {sizes['hidden_dim']}: the published settings are used "
            f"({sampler.steps} steps, guidance {sampler.cfg_weight:g})"
        ),
        stacklevel=2,
    )
    return made


def _head(name: str) -> type[ScoreHead]:
    kind = find_class(name) if "." in name else getattr(heads, name, None)
    if not (isinstance(kind, type) and issubclass(kind, ScoreHead)):
        raise ValueError(f"--head {name} is no score head: use {', '.join(names_of(heads, (ScoreHead,)))}")
    return kind
