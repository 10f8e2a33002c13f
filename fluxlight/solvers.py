"""Solvers: a velocity and times -> where it leads. A solver is a function; a new one is named by its import path."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Sequence

from torch import Tensor

from fluxlight.types import Velocity

Solver = Callable[[Velocity, Tensor, Sequence[float], "Callable[[], None] | None"], Tensor]
"""(velocity, x ``(B, L, D)``, falling times, called after each step) -> x at the last time ``(B, L, D)``."""


def euler(velocity: Velocity, x: Tensor, times: Sequence[float], on_step: Callable[[], None] | None = None) -> Tensor:
    """Integrate dx/dt = velocity(x, t) from times[0] to times[-1], first order, one call a step."""
    for now, then in itertools.pairwise(times):
        x = x + (then - now) * velocity(x, now)
        if on_step:
            on_step()
    return x


def heun(velocity: Velocity, x: Tensor, times: Sequence[float], on_step: Callable[[], None] | None = None) -> Tensor:
    """Integrate dx/dt = velocity(x, t) by Heun's method (trapezoid rule), second order, two calls a step."""
    for now, then in itertools.pairwise(times):
        slope = velocity(x, now)
        x = x + (then - now) / 2 * (slope + velocity(x + (then - now) * slope, then))
        if on_step:
            on_step()
    return x


SOLVERS: dict[str, Solver] = {"euler": euler, "heun": heun}


def find_solver(name: str) -> Solver:
    """A solver by its short name, ``euler`` or ``heun``, or by the import path of any function like them.

    Raises:
        ValueError: there is none of that name.
    """
    if name in SOLVERS:
        return SOLVERS[name]
    module, _, function = name.rpartition(".")
    try:
        found: Solver = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError):
        raise ValueError(
            f"method is {name!r}: use {', '.join(SOLVERS)}, or the import path of a solver (see fluxlight/solvers.py)"
        ) from None
    if not callable(found):
        raise ValueError(f"method {name} is no function: see fluxlight/solvers.py for what a solver takes")
    return found
