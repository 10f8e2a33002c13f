"""Recorded: a part that remembers how it was made, so that a bundle can write it down and make it again."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from typing import Any


class Recorded:
    """Mixin whose instances carry ``init_args``, the keyword settings they were constructed with.

    Every argument of ``__init__`` is kept under its own name, defaults included; ``*args`` and ``**kwargs`` of the
    constructor itself are not supported. The parts of a model (backbones, heads) inherit from it, so a new one is
    storable without a line about storage.
    """

    init_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make the instance and note the settings before ``__init__`` runs."""
        self = super().__new__(cls)
        # a copy (copy.deepcopy, pickle) arrives here without arguments and brings its own init_args afterwards
        bound = inspect.signature(cls.__init__).bind_partial(self, *args, **kwargs)
        bound.apply_defaults()
        starred = {p.name for p in bound.signature.parameters.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        settings = {name: value for name, value in list(bound.arguments.items())[1:] if name not in starred}
        # not through nn.Module.__setattr__, which wants nn.Module.__init__ first
        object.__setattr__(self, "init_args", settings)
        return self


def family(package: str, path: Iterable[str], *bases: type) -> dict[str, type]:
    """The classes of a package's files that are a kind of one of ``bases``, by name: a new file is found by itself."""
    found: dict[str, type] = {}
    for file in pkgutil.iter_modules(path):
        for name, value in vars(importlib.import_module(f"{package}.{file.name}")).items():
            if isinstance(value, type) and issubclass(value, bases):
                found[name] = value
    return found


def names_of(package: Any, bases: tuple[type, ...]) -> list[str]:
    """Class names of a family, as a command line takes them."""
    found = [value for value in vars(package).values() if isinstance(value, type) and issubclass(value, bases)]
    return sorted({value.__name__ for value in found} - {base.__name__ for base in bases})


def class_path(part: object) -> str:
    """Importable name of the class of ``part``, as a YAML ``class_path`` takes it."""
    return f"{type(part).__module__}.{type(part).__qualname__}"


def find_class(path: str) -> type[Any]:
    """The class of an importable name."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"class {path} cannot be imported ({error}): check its name") from None
    if not isinstance(found, type):
        raise ValueError(f"{path} is no class: check its name")
    return found
