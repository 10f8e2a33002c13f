"""The shipped model: a text-only trunk of the embedded world in one file, a byte for each weight of a matrix.

``fluxlight generate`` plays it where no model is given, and the chain of ``tiny`` starts from it in place of a trunk of
its own. It is what ``configs/stages/trunk.yaml`` makes at the scale ``tiny``, rounded to 8 bits: fewer bytes in the
package, nothing that a table tells (both are measured in ``fluxlight/embedded/README.md``).

``python -m experiments.shipped_trunk`` packs and unpacks it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fluxlight.backbone import FluxAudio
from fluxlight.bundle import load_bundle, read_recipe, save_bundle
from fluxlight.files import cache_folder, claimed
from fluxlight.generate.pipeline import find_bundle, read_pipeline
from fluxlight.model import FluxModel
from fluxlight.weights.frozen import read_frozen, shipped, write_frozen

NAME, VERSION = "trunk", 1
FILE = shipped("trunk.safetensors")
RECIPE = "python -m experiments.shipped_trunk --pack RUN"
STEP = ".step"
"""Behind the name of a matrix: what one step of its whole numbers is worth, for each of its rows."""
LARGEST = 127
"""Whole numbers reach from minus this to this (signed bytes, symmetric; our choice)."""


def to_bytes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels as signed bytes with a step for each row of outputs, everything else as it is."""
    kept: dict[str, Tensor] = {}
    for name, value in state.items():
        if value.ndim < 2 or not name.endswith(".weight"):
            kept[name] = value
            continue
        step = value.flatten(1).abs().amax(1).clamp_min(1e-12) / LARGEST
        kept[name + STEP] = step
        kept[name] = (value / _wide(step, value)).round().to(torch.int8)
    return kept


def from_bytes(kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state that `to_bytes` was given, within half a step of each row, in fp32."""
    steps = {name: value for name, value in kept.items() if name.endswith(STEP)}
    plain = {name: value for name, value in kept.items() if name not in steps}
    return {k: v.float() * _wide(steps[k + STEP], v) if k + STEP in steps else v for k, v in plain.items()}


def _wide(step: Tensor, like: Tensor) -> Tensor:
    return step.reshape(-1, *[1] * (like.ndim - 1))


def pack(run: str | Path, path: str | Path, facts: Mapping[str, Any]) -> str:
    """Write the bundle of a run as the file that is shipped; returns its identity.

    Args:
        run: run folder of a text-only `FluxAudio`, with what it has rendered: its sampler is kept.
        path: the file.
        facts: what is to be known of its training.
    """
    folder = find_bundle(run)
    model, recipe = load_bundle(folder), read_recipe(folder)
    if model.head is not None or type(model.backbone) is not FluxAudio:
        raise ValueError(f"{folder} is no FluxAudio without a head: only a trunk is shipped")
    about = {"settings": recipe["backbone"]["init_args"], "info": recipe["info"]}
    about["info"]["pipeline"] = read_pipeline(run).plain()
    return write_frozen(path, to_bytes(model.state_dict()), NAME, VERSION, {**facts, **about})


def unpack(folder: str | Path, path: str | Path | None = None) -> Path:
    """Write the shipped model as a model folder.

    Args:
        folder: made when absent.
        path: the packed file; the shipped one by default.

    Raises:
        FileNotFoundError, ValueError: the file is missing, damaged or not a packed trunk.
    """
    path = FILE if path is None else Path(path)
    settings = _facts(path).get("settings")
    # a file without them is no packed trunk, and what it is will be said
    model = FluxModel(FluxAudio(**settings)) if settings else None
    frozen = read_frozen(path, NAME, to_bytes(model.state_dict()) if model else {}, RECIPE)
    assert model is not None
    model.load_state_dict(from_bytes(frozen.tensors))
    return save_bundle(folder, model, {**frozen.facts["info"], "shipped": frozen.identity})


def unpacked() -> Path:
    """The shipped model as a model folder of the cache, written when it is not there."""
    folder = cache_folder() / "models" / f"{NAME}-v{VERSION}-{_header(FILE)['digest'][:8]}"
    if not (folder / "model.yaml").is_file():
        with claimed(folder, ("",), make=True):
            unpack(folder)
    return folder


def shipped_costs() -> list[dict[str, Any]]:
    """What the shipped model cost where it was trained, as `fluxlight.files.costs` keeps it."""
    return list(_facts(FILE).get("costs", []))


def _header(path: Path) -> dict[str, str]:
    """What the file says of itself, empty where `read_frozen` will say what is wrong with it."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return {"digest": "unknown", **(file.metadata() or {})}
    except (SafetensorError, OSError):
        return {"digest": "unknown"}


def _facts(path: Path) -> dict[str, Any]:
    return dict(json.loads(_header(path).get("facts", "{}")))

