"""Strict loading of weights: everything fits, or nothing is copied and one line names what does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def load_strict(
    module: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    remedy: str,
    may_miss: Sequence[str] = (),
) -> None:
    """Copy ``state`` into ``module``; see `check_fit`."""
    check_fit(module, state, source, remedy, may_miss)
    module.load_state_dict(dict(state), strict=False)


def check_fit(
    module: nn.Module, state: Mapping[str, Tensor], source: str, remedy: str, may_miss: Sequence[str] = ()
) -> None:
    """Refuse a state that does not fit ``module``, by its first names.

    Args:
        module: whose parameters and buffers are to be filled.
        state: tensors by name.
        source: what the error calls the weights, e.g. "bundle runs/sft".
        remedy: what the error tells the reader to do.
        may_miss: prefixes of the module's names that ``state`` need not have.
    """
    own = module.state_dict()
    missing = [k for k in own if k not in state and not k.startswith(tuple(may_miss))]
    extra = [k for k in state if k not in own]
    shapes = [
        f"{k} {tuple(v.shape)} for {tuple(own[k].shape)}"
        for k, v in state.items()
        if k in own and v.shape != own[k].shape
    ]
    for what, names in (("lacks", missing), ("has unknown", extra), ("has other shapes:", shapes)):
        if names:
            raise ValueError(f"{source} {what} {some(names)} ({len(names)} of {len(own)} names): {remedy}")


def check_finite(state: Mapping[str, Tensor], source: str, remedy: str = "use an earlier checkpoint") -> None:
    """Refuse weights with NaN or infinity; the error names ``source`` and ``remedy``."""
    bad = [k for k, v in state.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if bad:
        raise ValueError(f"{source}: non-finite values in {some(bad)} ({len(bad)} tensors): {remedy}")


def some(names: Sequence[str]) -> str:
    """The first three names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
