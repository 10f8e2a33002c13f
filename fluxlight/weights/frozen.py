"""Frozen judges on disk: safetensors whose header carries name, version, digest and training facts.

The digest is over the tensors, so a judge's identity, ``name-v<version>-<8 digits>``, changes with its weights and
with nothing else; every result carries it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fluxlight.files import atomic_path


@dataclass(frozen=True)
class Frozen:
    """A weight file that was read and found whole.

    Attributes:
        tensors: weights in fp32.
        identity: ``name-v<version>-<8 digits of the digest>``.
        header: everything its header says, as text.
        facts: what it says about training.
    """

    tensors: dict[str, Tensor]
    identity: str
    header: dict[str, str]
    facts: dict[str, Any]


def shipped(file: str) -> Path:
    """Path of a weight file that the package ships."""
    return Path(str(files("fluxlight.embedded"))) / "weights" / file


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of tensors: independent of the order and header of a file."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key].contiguous()
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def own_state(state: Mapping[str, Tensor], without: str = "\0") -> dict[str, Tensor]:
    """What a weight file holds of a state dict: all but BatchNorm's counters and names that begin with ``without``."""
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked") and not k.startswith(without)}


def write_frozen(
    path: str | Path, tensors: Mapping[str, Tensor], name: str, version: int, facts: dict[str, Any], **more: str
) -> str:
    """Write weights as they are to be kept (fp16 or fp32), atomically; returns the identity they now have."""
    kept = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    bad = [key for key, value in kept.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise ValueError(f"{name}: {bad[0]} is not finite in {kept[bad[0]].dtype}: training has diverged")
    digest = tensor_digest(kept)
    said = json.dumps(facts, sort_keys=True)
    header = {"name": name, "version": str(version), "digest": digest, "facts": said, **more}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(kept, metadata=header))
    return f"{name}-v{version}-{digest[:8]}"


def read_frozen(path: str | Path, name: str, own: Mapping[str, Tensor], recipe: str = "") -> Frozen:
    """Read what `write_frozen` wrote; a missing, wrong or damaged file is one clear error.

    Args:
        path: the file.
        name: the judge it must hold.
        own: the tensors to be filled, whose names and shapes it must have.
        recipe: the command that makes such a file, where it is not a fit of ``configs/embedded``.
    """
    path = Path(path)
    recipe = recipe or f"fluxlight fit --config configs/embedded/{name.replace('-', '_')}.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"no weights of {name} at {path}: reinstall fluxlight, or train them with '{recipe}'")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}): fetch or train it again") from None
    if header.get("name") != name:
        raise ValueError(f"{path} holds {header.get('name', 'unknown')!r}, not {name!r}: pass the right file")
    digest = tensor_digest(tensors)
    if digest != header.get("digest"):
        raise ValueError(
            f"{path}: digest {digest[:8]} differs from its header's {str(header.get('digest'))[:8]}: "
            "the file is damaged, fetch or train it again"
        )
    wrong = sorted(own.keys() ^ tensors.keys()) or [key for key in own if own[key].shape != tensors[key].shape]
    if wrong:
        raise ValueError(f"{path} does not fit this {name} (first difference: {wrong[0]}): train it with '{recipe}'")
    plain = {key: value.float() for key, value in tensors.items()}
    return Frozen(plain, f"{name}-v{header['version']}-{digest[:8]}", header, json.loads(header["facts"]))
