"""Foreign weights: files that somebody else published, read without running any code that may be in them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def read_weights(
    path: str | os.PathLike[str],
    what: str,
    remedy: str,
    containers: Sequence[str] = ("state_dict",),
    allow: Sequence[Any] = (),
) -> dict[str, Tensor]:
    """The tensors of a ``.pt``, ``.pth`` or ``.bin`` file (``weights_only=True``) or of a ``.safetensors``, by name.

    The file is mapped where its format allows it: what is never used of it, an optimiser for instance, is never read.

    Args:
        path: the file.
        what: what an error calls it, e.g. "TuneJury head".
        remedy: what an error tells the reader to do.
        containers: keys under which the state dict may stand; they are opened until tensors are found.
        allow: beside tensors, what the file may be made of (as `torch.serialization.safe_globals` takes it).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: cut short, not of these formats, made of code, or without tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}: {remedy}")
    try:
        content = _load(path, allow)
    except Exception as error:  # pickle, zip, torch and safetensors each raise their own
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ValueError(f"{path} cannot be read as {what} ({reason}): cut short? {remedy}") from None
    while isinstance(content, dict) and not any(isinstance(value, Tensor) for value in content.values()):
        content = next((content[key] for key in containers if isinstance(content.get(key), dict)), None)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no state dict of tensors, so it is no {what}: {remedy}")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _load(path: Path, allow: Sequence[Any]) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    with torch.serialization.safe_globals(list(allow)):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
