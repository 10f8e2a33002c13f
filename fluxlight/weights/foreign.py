"""Foreign weights: files that somebody else published, read without running any code that may be in them.

Published files come in wrappings: a container with counters beside the weights, a wrapper's name before every name of
the network. They are taken off here; what is left are the network's own names.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fluxlight.files.kinds import PICKLE, SAFETENSORS, TORCH, describe, kind_of
from fluxlight.files.printable import printable

CONTAINERS = ("state_dict", "model_state_dict", "model", "weights", "net", "network", "params", "module")
"""Keys under which a file may hold its state dict."""
AVERAGES = ("ema", "params_ema", "ema_model", "model_ema", "ema_state_dict")
"""Keys under which it may hold averaged weights."""
WRAPPERS = ("module.", "_orig_mod.", "model.", "ema_model.")
"""What DDP, `torch.compile`, a LightningModule and an average put before every name of the network."""
_AVERAGE, _COMPILED = "ema_model.", "_orig_mod."
COUNTERS = {"step", "steps", "initted", "n_averaged", "num_updates", "decay", "it", "iteration", "epoch", "global_step"}
"""Names of single numbers that are no weights."""
DEEPEST = 8
"""Mappings within mappings that are looked into (our choice; published files have two)."""
FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
"""Variable by which torch loads every file as with ``weights_only=True``."""
LIGHTNING = "pytorch-lightning_version"


def read_weights(
    path: str | os.PathLike[str], what: str, remedy: str, containers: Sequence[str] = (), average: bool = False
) -> dict[str, Tensor]:
    """The tensors of a PyTorch file (read as with ``weights_only=True``) or of a safetensors, whatever its suffix.

    The file is mapped where its format allows it: what is never used of it, an optimiser for instance, is never read.

    Args:
        path: the file.
        what: what an error calls it, e.g. "TuneJury head".
        remedy: what an error tells the reader to do.
        containers: keys under which the state dict may stand, before `CONTAINERS` and `AVERAGES`.
        average: take averaged weights first where a file has both kinds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: cut short, of another format (the error says which), made of code, or without tensors.
    """
    path = Path(path)
    if not path.is_file():
        where = f"{path} is a folder, not a {what}" if path.is_dir() else f"no {what} at {path}"
        raise FileNotFoundError(f"{where}: {remedy}")
    kind = kind_of(path)
    if kind not in (TORCH, PICKLE, SAFETENSORS):
        raise ValueError(f"{path} cannot be read as {what} (it is {describe(path)}): {remedy}")
    try:
        content = _load(path, kind)
    except Exception as error:  # pickle, zip, torch and safetensors each raise their own
        raise ValueError(f"{path} cannot be read as {what} ({reason_of(error)}): {remedy}") from None
    order = (*containers, *((*AVERAGES, *CONTAINERS) if average else (*CONTAINERS, *AVERAGES)))
    content, opened = _opened(content, order) if isinstance(content, Mapping) else ({}, set())
    found = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not found:
        there = f" (it has {', '.join(map(repr, list(content)[:5]))})" if content else ""
        raise ValueError(f"{path} holds no state dict of tensors{there}, so it is no {what}: {remedy}")
    if LIGHTNING in opened and any(key.startswith("model.backbone.") for key in found):
        raise ValueError(f"{path} is a run's own checkpoint, which only --ckpt_path goes on from, no {what}: "
                         f"give the bundle beside it, {path.parent / 'bundle'}")  # fmt: skip
    return unwrapped(found, f"{path}")


def unwrapped(state: Mapping[str, Tensor], source: str = "the state dict") -> dict[str, Tensor]:
    """The state dict under the network's own names: wrappers off, the average alone where it stands beside its model.

    A wrapper is taken off where all weights carry it; `torch.compile`'s may stand anywhere in a name.
    """
    found = {key: value for key, value in state.items() if not (key in COUNTERS and value.numel() <= 1)}
    while True:
        if any(key.startswith(_AVERAGE) for key in found):
            found = {key: value for key, value in found.items() if key.startswith(_AVERAGE)}
        wrapper = next((w for w in WRAPPERS if found and all(key.startswith(w) for key in found)), None)
        if wrapper is None:
            break
        found = {key.removeprefix(wrapper): value for key, value in found.items()}
        found = {key: value for key, value in found.items() if not (key in COUNTERS and value.numel() <= 1)}
    bare = {key.replace(_COMPILED, ""): value for key, value in found.items()}
    if len(bare) < len(found):
        raise ValueError(f"{source} holds a network twice, with and without {_COMPILED}: save one of them alone")
    return bare


def _opened(content: Any, containers: Sequence[str]) -> tuple[Mapping[Any, Any], set[str]]:
    """The innermost mapping under ``containers``, and the keys that stood around it."""
    passed: set[str] = set()
    for _ in range(DEEPEST):
        inner = next((content[key] for key in containers if _holds_tensors(content.get(key))), None)
        if inner is None:
            break
        passed |= {str(key) for key in content}
        content = inner
    return content, passed


def _holds_tensors(value: Any, depth: int = DEEPEST) -> bool:
    # a pickle may hold itself
    return depth > 0 and isinstance(value, Mapping) and any(
        isinstance(v, Tensor) or _holds_tensors(v, depth - 1) for v in value.values()
    )  # fmt: skip


def _load(path: Path, kind: str) -> Any:
    if kind == SAFETENSORS:
        from safetensors.torch import load_file

        return load_file(path)
    # without a path torch goes by the content: not by a misleading suffix, nor to an old tar, which it would unpack
    named = kind == TORCH and path.suffix != ".safetensors"
    with path.open("rb") as file, torch.serialization.safe_globals(plain_types()):
        source: Any = path if named else file
        if _protocol(path, kind) == 2:
            return torch.load(source, map_location="cpu", weights_only=True, mmap=named)
        from fluxlight.weights import pickles

        # weights_only=True takes no pickle module; this one is the very reader behind it, with the same types allowed
        source = source if kind == TORCH else BytesIO(file.read())
        return torch.load(source, map_location="cpu", pickle_module=pickles, weights_only=False, mmap=named)


def _protocol(path: Path, kind: str) -> int:
    """Of the pickle in a PyTorch file."""
    if kind == TORCH:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(name) as file:
                head = file.read(2)
    else:
        with path.open("rb") as file:
            head = file.read(2)
    return head[1] if len(head) == 2 and head[:1] == pickle.PROTO else 0


@cache
def plain_types() -> list[Any]:
    """What numpy's numbers and arrays, which training loops write beside weights, are made of, and a frozen set.

    numpy's are named as numpy 1 and numpy 2 write them. None of these runs what a file holds.
    """
    import numpy as np

    makers = {
        "multiarray.scalar": np.float64(0).__reduce__()[0],
        "multiarray._reconstruct": np.zeros(1).__reduce__()[0],
        "numeric._frombuffer": np.zeros(1).__reduce_ex__(5)[0],
    }
    found: list[Any] = [frozenset, np.dtype, np.ndarray]
    found += [(made, f"numpy.{core}.{name}") for core in ("core", "_core") for name, made in makers.items()]
    return found + [type(np.dtype(kind)) for kind in "? b B h H i I l L q Q e f d g U S".split()]


@contextmanager
def nothing_run(allow: Sequence[Any] = ()) -> Iterator[None]:
    """Within this block `torch.load` makes tensors, plain values and what ``allow`` names, whoever calls it and how.

    For packages that load their own published files with ``weights_only=False``.
    """
    before = os.environ.get(FORCED)
    os.environ[FORCED] = "1"
    try:
        with torch.serialization.safe_globals([*plain_types(), *allow]):
            yield
    finally:
        del os.environ[FORCED]
        if before is not None:
            os.environ[FORCED] = before


def reason_of(error: Exception) -> str:
    """Why a file cannot be read, without torch's advice to run its code."""
    said = " ".join(str(error).split()) or type(error).__name__
    if refused := re.search(r"(?:Unsupported global: GLOBAL|Trying to load unsupported GLOBAL) (\S+)", said):
        return printable(f"it holds a {refused[1]}, and of a foreign file nothing but tensors and plain values is made")
    detail = re.search(r"WeightsUnpickler error: (.*)", said)
    return "cut short or damaged: " + printable(detail[1] if detail else said)[:120]
