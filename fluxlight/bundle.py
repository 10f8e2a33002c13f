"""Bundles: a model as a folder of model.yaml + weights.safetensors, and the published checkpoints' way in and out.

model.yaml holds class path and settings of backbone and head and free ``info``; weights.safetensors every parameter
and buffer (latent statistics, empty and negative text included), ema.safetensors the same names for the averaged
weights, if any. Nothing here needs lightning.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fluxlight.backbone.base import Backbone
from fluxlight.files import atomic_path, sha256, write_text
from fluxlight.heads.base import ScoreHead
from fluxlight.model import FluxModel
from fluxlight.recorded import class_path
from fluxlight.weights.fluxaudio import export_published, load_published, read_published
from fluxlight.weights.strict import check_finite, load_strict, some

__all__ = [
    "bundle_hash",
    "export_published",
    "init_from",
    "load_bundle",
    "load_published",
    "published_state",
    "read_published",
    "read_recipe",
    "save_bundle",
]

RECIPE = "model.yaml"
WEIGHTS = {"raw": "weights.safetensors", "ema": "ema.safetensors"}
Which = Literal["raw", "ema"]
Folder = str | os.PathLike[str]

# settings that may differ between a bundle and the model it initialises: they change no function of the weights
_FREE_SETTINGS = {"latent_mean", "latent_std", "latent_seq_len", "text_seq_len"}


def save_bundle(
    folder: Folder, model: FluxModel, info: Mapping[str, Any] | None = None, ema: Mapping[str, Tensor] | None = None
) -> Path:
    """Write ``model`` to ``folder``, each file atomically and model.yaml, which vouches for the others, last.

    Args:
        folder: made when absent; files of an earlier bundle are replaced.
        model: the model with its raw weights.
        info: plain values to keep beside it: stage, steps, corpus and judge identities.
        ema: averaged weights under the names of ``model.state_dict()``; names left out are taken from the model.

    Returns:
        The folder.
    """
    folder = Path(folder)
    states = {"raw": _cpu(model.state_dict())}
    if ema is not None:
        strangers = sorted(set(ema) - set(states["raw"]))
        if strangers:
            raise ValueError(f"ema holds {len(strangers)} names the model has not: {some(strangers)}")
        states["ema"] = {**states["raw"], **_cpu(ema)}
    for which, state in states.items():
        check_finite(state, f"the {which} weights for {folder}")
    recipe: dict[str, Any] = {"format": 1}
    for part, value in (("backbone", model.backbone), ("head", model.head)):
        recipe[part] = None if value is None else {"class_path": class_path(value), "init_args": _settings(value)}
    recipe["info"] = _plain(dict(info or {}), "info")
    folder.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for which, state in states.items():
        with atomic_path(folder / WEIGHTS[which]) as temporary:
            save_file(state, temporary)
        hashes[which] = sha256(folder / WEIGHTS[which])[:16]
    if ema is None:
        (folder / WEIGHTS["ema"]).unlink(missing_ok=True)
    write_text(folder / RECIPE, yaml.safe_dump({**recipe, "hash": hashes}, sort_keys=False, allow_unicode=True))
    return folder


def read_recipe(folder: Folder) -> dict[str, Any]:
    """model.yaml of a bundle: ``backbone``, ``head``, ``info``, ``hash``."""
    path = Path(folder) / RECIPE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no bundle (no {RECIPE} in it): {_instead(Path(folder))}")
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        recipe = None
    if not isinstance(recipe, dict) or not {"backbone", "head", "hash"} <= set(recipe):
        raise ValueError(f"{path} is no bundle recipe (backbone, head, hash expected): write the bundle again")
    return recipe


def _instead(folder: Path) -> str:
    """What to give in the place of a folder or file that is no bundle."""
    there = next((place for place in (folder / "bundle", folder.parent / "bundle") if (place / RECIPE).is_file()), None)
    return f"give {there}" if there else "give the folder that fit wrote at its end"


def bundle_hash(folder: Folder, weights: Which = "raw") -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a bundle's weights: the name of the checkpoint in every result.

    A published checkpoint, one file, is named by its bytes.
    """
    if Path(folder).is_file():
        return sha256(Path(folder))[:16]
    read_recipe(folder)
    return sha256(_weights_file(folder, weights))[:16]


def load_bundle(folder: Folder, weights: Which = "raw") -> FluxModel:
    """The model of a bundle, on the CPU, in eval mode, with its raw or averaged weights."""
    recipe, state = read_recipe(folder), _read_weights(folder, weights)
    backbone = _make(recipe["backbone"], Backbone, folder)
    head = None if recipe["head"] is None else _make(recipe["head"], ScoreHead, folder, backbone.ports)
    model = FluxModel(backbone, head)
    load_strict(model, state, f"bundle {folder}", "was it written by another version of its classes?")
    return model.eval()


def init_from(
    model: FluxModel,
    folder: Folder,
    skip: Sequence[str] = (),
    allow_new: Sequence[str] = (),
    weights: Which = "raw",
    head_prefix: str | None = None,
) -> None:
    """Copy the weights and buffers of a bundle, or of a published checkpoint, into ``model``, strictly.

    Args:
        model: the model to fill; only shapes and names of the bundle must fit, so a v1 bundle fills a v2 model.
        folder: the bundle; or a published FluxAudio checkpoint, a .pth file, which has no negative text.
        skip: prefixes of bundle names that are not taken, e.g. ``head.`` to fill a text-only model; of a published
            checkpoint its own names, e.g. those of a score head.
        allow_new: prefixes of model names that the bundle need not have, e.g. ``head.`` from a text-only bundle; it
            has all names of a prefix or none, so that no head is made of two.
        weights: the raw weights (what the published chain hands on) or the averaged ones, where there are both.
        head_prefix: where a published checkpoint has the score head: see `load_published`.
    """
    if Path(folder).is_file():
        _init_from_file(model, Path(folder), skip, allow_new, weights, head_prefix)
        return
    if head_prefix is not None:
        raise ValueError(f"head_prefix {head_prefix!r} is for a published file, {folder} is a bundle: leave it out")
    recipe = read_recipe(folder)
    theirs, ours = recipe["backbone"].get("init_args", {}), _settings(model.backbone)
    for name in sorted((set(theirs) & set(ours)) - _FREE_SETTINGS):
        if theirs[name] != ours[name]:
            raise ValueError(
                f"init_from {folder}: its backbone has {name} {theirs[name]}, this one {ours[name]}: make them equal"
            )
    state = {k: v for k, v in _read_weights(folder, weights).items() if not k.startswith(tuple(skip))}
    for prefix in allow_new:
        lacking = [k for k in model.state_dict() if k.startswith(prefix) and k not in state]
        if lacking and any(k.startswith(prefix) for k in state):
            raise ValueError(
                f"init_from {folder} has {prefix} in part, it lacks {some(lacking)}: choose the bundle's head, "
                f"or put {prefix} into skip to start it anew"
            )
    remedy = "choose the bundle's head, or name prefixes in skip (bundle names not taken) and allow_new (kept as made)"
    load_strict(model, state, f"init_from {folder}", remedy, may_miss=(*skip, *allow_new))


def published_state(path: Folder, skip: Sequence[str] = (), weights: Which = "raw") -> dict[str, Tensor]:
    """The state dict of a published file, names that begin with one of ``skip`` left out; a part of ours is refused."""
    path = Path(path)
    if path.name in WEIGHTS.values() and (path.parent / RECIPE).is_file():
        raise ValueError(f"{path} is a part of a bundle: give the folder, {path.parent}")
    state = read_published(path, average=weights == "ema")
    if any(k.startswith("backbone.") for k in state):
        raise ValueError(f"{path} is the weights of a bundle without its {RECIPE}: give the whole folder")
    return {k: v for k, v in state.items() if not k.startswith(tuple(skip))}


def _init_from_file(
    model: FluxModel, path: Path, skip: Sequence[str], allow_new: Sequence[str], weights: Which, prefix: str | None
) -> None:
    state = published_state(path, skip, weights)
    new = [k for k in model.state_dict() if k.startswith("head.") and not k.startswith(tuple(allow_new))]
    if new and prefix is None:
        raise ValueError(
            f"init_from {path}: a published checkpoint lacks {some(new)}: put head. into allow_new to start the score "
            "head anew, set head to null, or say with head_prefix where the checkpoint has one"
        )
    load_published(model, state, prefix, f"init_from {path}")


def _make(recipe: Any, base: type, folder: Folder, *args: Any) -> Any:
    try:
        module, _, name = recipe["class_path"].rpartition(".")
        made = getattr(importlib.import_module(module), name)
    except (TypeError, KeyError, ValueError, ImportError, AttributeError) as error:
        raise ValueError(f"{folder}/{RECIPE}: class_path of the {base.__name__} cannot be imported ({error})") from None
    if not (isinstance(made, type) and issubclass(made, base)):
        raise ValueError(f"{folder}/{RECIPE}: {recipe['class_path']} is not a {base.__name__}")
    try:
        return made(*args, **(recipe.get("init_args") or {}))
    except TypeError as error:
        raise ValueError(f"{folder}/{RECIPE}: settings of {recipe['class_path']} do not fit ({error})") from None


def _weights_file(folder: Folder, weights: Which) -> Path:
    path = Path(folder) / WEIGHTS[weights]
    if not path.is_file():
        other = "train with an averaging callback or use weights: raw" if weights == "ema" else "write the bundle again"
        raise FileNotFoundError(f"bundle {folder} has no {path.name}: {other}")
    return path


def _read_weights(folder: Folder, weights: Which) -> dict[str, Tensor]:
    path = _weights_file(folder, weights)
    if sha256(path)[:16] != read_recipe(folder)["hash"].get(weights):
        raise ValueError(f"{path} is not the file {RECIPE} vouches for (cut short or replaced): write it again")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read ({error}): write the bundle again") from None
    check_finite(state, str(path))
    return state


def _settings(part: Backbone | ScoreHead) -> dict[str, Any]:
    return {k: _plain(v, k) for k, v in part.init_args.items() if k != "ports"}


def _plain(value: Any, name: str) -> Any:
    """``value`` as YAML can hold it."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{name}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, name) for v in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and not isinstance(value, str):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{name} is a {type(value).__name__}, which model.yaml cannot hold: use plain values")


def _cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in state.items()}
