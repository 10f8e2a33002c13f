"""Parts: a class and its settings as plain values, made only from code that the reader trusts.

A model folder may come from anybody. What it names is imported only from ``fluxlight`` or from a package the caller
trusts by name, and its settings may point at no file: a path in a downloaded folder could lead a loader to a pickle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from fluxlight.recorded import class_path, find_class
from fluxlight.weights.catalogue import CATALOGUE

T = TypeVar("T")

PLACES = ("path", "folder", "weights", "file", "repo", "vae", "vocoder", "tokenizer", "head")
"""A setting with one of these words in its name says where something lies."""


@dataclass(frozen=True)
class Part:
    """One part beside the model.

    Attributes:
        class_path: importable name of its class.
        init_args: its settings, plain values.
        identity: name, version and hash of its weights, "" where it has none or nobody wrote it down.
    """

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)
    identity: str = ""

    @classmethod
    def read(cls, value: Any, where: str) -> Part:
        """A part from plain values; ``where`` names them in errors."""
        if isinstance(value, str):
            value = {"class_path": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("class_path"), str):
            raise ValueError(f"{where} is {value!r}: give class_path and, if any, init_args")
        if unknown := sorted(set(value) - {"class_path", "init_args", "identity"}):
            raise ValueError(
                f"{where} has unknown keys {', '.join(unknown)}: class_path, init_args, identity are known"
            )
        part = cls(value["class_path"], dict(value.get("init_args") or {}), str(value.get("identity") or ""))
        for name, setting in part.init_args.items():
            _refuse_places(str(name), setting, where)
        return part

    def plain(self) -> dict[str, Any]:
        """The part as plain values."""
        return {key: value for key, value in asdict(self).items() if value or key == "class_path"}

    def find(self, base: type[T], trust: Sequence[str] = (), within: str = "fluxlight") -> type[T]:
        """The class, imported.

        Args:
            base: what it must be an instance of.
            trust: packages beside fluxlight whose code may be run.
            within: module of fluxlight that must hold the class, where ``base`` says too little.
        """
        refuse_strangers(self.class_path, trust)
        made = find_class(self.class_path)
        home = made.__module__
        if not issubclass(made, base) or not (home.partition(".")[0] in trust or f"{home}.".startswith(f"{within}.")):
            raise ValueError(f"{self.class_path} is not a {base.__name__} of {within}: name one that is")
        return made

    def make(self, base: type[T], trust: Sequence[str] = (), within: str = "fluxlight") -> T:
        """The part itself; see `find`."""
        made = self.find(base, trust, within)
        try:
            part = made(**self.init_args)
        except TypeError as error:
            raise ValueError(f"settings of {self.class_path} do not fit ({error}): correct its init_args") from None
        found = getattr(part, "identity", "")
        if self.identity and found != self.identity:
            raise ValueError(
                f"the model was made with {self.identity}, {self.class_path} is {found} here: "
                "install the version of fluxlight, or put the weights, that the model was trained on"
            )
        return part


def refuse_strangers(path: str, trust: Sequence[str] = ()) -> None:
    """Refuse a class path outside fluxlight and the trusted packages, before anything of it is imported."""
    package = path.partition(".")[0]
    if package not in {"fluxlight", *trust}:
        raise ValueError(
            f"the model folder names {path}, which is not part of fluxlight: importing it runs code of {package}; "
            f"if you trust it, add --trust {package}"
        )


def describe(step: Any) -> dict[str, Any]:
    """A step of post-processing as plain values, without what is particular to this machine."""
    plain = {k: v for k, v in vars(step).items() if not k.startswith("_") and k not in ("device", "optional", "batch")}
    kept = {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items() if not any(w in k for w in PLACES)}
    return {"class_path": class_path(step)} | {
        k: v for k, v in kept.items() if v is None or isinstance(v, bool | int | float | str | list)
    }


def _is_name(value: str) -> bool:
    """Whether a value is a plain word or the name of a published file, and so no path."""
    return re.fullmatch(r"[\w-]*", value) is not None or value in CATALOGUE


def _refuse_places(name: str, value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_places(str(key), item, where)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_places(name, item, where)
    elif isinstance(value, str) and (any(word in name for word in PLACES) or not _is_name(value)):
        raise ValueError(
            f"{where} sets {name} to {value!r}: a model folder may name no place on a disk; leave {name} out and "
            "put the file where fluxlight looks for it"
        )
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise ValueError(f"{where} sets {name} to a {type(value).__name__}: use plain values")
