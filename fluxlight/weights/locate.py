"""Where a published file lies on this machine; a missing one is one line that says how to get it."""

from __future__ import annotations

import os
from pathlib import Path

from fluxlight.files import cache_folder
from fluxlight.weights.catalogue import CATALOGUE, Published

VARIABLE = "FLUXLIGHT_WEIGHTS"


def weights_folder() -> Path:
    """The one folder of published files: ``FLUXLIGHT_WEIGHTS`` if set, else ``weights`` of the cache folder."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_folder() / "weights"


def use_folder(folder: str | None) -> None:
    """Make ``folder`` the weights folder of this process and its children; None leaves all as it is.

    For entry points: the `weights` key of a config ends here, and wins over the environment.
    """
    if folder is not None:
        os.environ[VARIABLE] = str(Path(folder).expanduser().absolute())


def locate(name: str, path: str | Path | None = None) -> Path:
    """The published file or folder ``name``.

    Args:
        name: published name, for instance ``v1-44.pth`` or ``flan-t5-large`` (`fluxlight weights` lists them).
        path: where it lies, if not in the weights folder; it wins, and only has to exist.

    Raises:
        FileNotFoundError: it is not there, or a folder lacks some of its files; the line says where it was looked
            for, where it is published, its licence and what takes its place in the embedded world.
        ValueError: what lies there is seen to be something else: a Git LFS pointer, a web page, an empty file.
    """
    name = name.rstrip("/")
    known = CATALOGUE.get(name)
    wanted = weights_folder() / name if path is None else Path(path).expanduser()
    if not wanted.exists():
        raise FileNotFoundError(f"{name} is not at {wanted}: {_how(name, known)}")
    if path is None and known is not None and (lacks := known.lacks(wanted)):
        raise FileNotFoundError(f"{name} at {wanted} lacks {', '.join(lacks)}: {_how(name, known)}")
    # it need not be the published one (`fluxlight weights` says where it is not), but no pointer or page either
    if known is not None and (faults := known.faults(wanted, sized=False)):
        raise ValueError(f"{name}: {faults[0]}: {_how(name, known)}")
    return wanted


def _how(name: str, known: Published | None) -> str:
    place = f"put the published one there, or set {VARIABLE} or its path in the config"
    if known is None:
        return f"{place} (fluxlight weights lists the published files, {name} is not among them)"
    get = f"fluxlight weights --fetch {name}" if known.files else "it cannot be fetched by name"
    return f"published at {known.page} ({known.licence}); {get}, or {place}; embedded alternative: {known.alternative}"
