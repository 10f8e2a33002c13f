"""Worlds: which codec, encoders, post-processing and judges belong together, one YAML each.

::

    sizes:     [features of a text token, of the global text, of a latent]; a bundle with these belongs to the world
    pipeline:  what makes audio of a prompt (see `fluxlight.generate.pipeline.Pipeline`)
    judges:    claps and rewards by the names that tables use, and those of them that are optimised on
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fluxlight.files import read_yaml

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of the worlds that are here."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_world(name: str) -> dict[str, Any]:
    """A world by its name, or by the path of a YAML of one's own (``defaults: [...]`` builds on another).

    Raises:
        ValueError: there is no such world, or its YAML has keys that are none of a world's.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"world {name!r}: choose one of {', '.join(names())}, or give a YAML")
    world = read_yaml(path)
    if odd := sorted(set(world) - {"sizes", "pipeline", "judges"}):
        raise ValueError(f"{path} has unknown {', '.join(odd)}: a world has sizes, pipeline and judges")
    return world
