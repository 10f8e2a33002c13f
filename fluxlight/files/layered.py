"""YAML files that build on others: ``defaults: [...]`` names files that a file is laid over (Hydra's idiom)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

# libyaml's parser is ten times faster where PyYAML has it; both make the same values
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Yaml(_Safe):
    """Safe YAML in which 1e-6 is a number and a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of ``node``."""
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := [key for key in keys if keys.count(key) > 1]:
            line = next(key for key, _ in reversed(node.value) if key.value == twice[0]).start_mark.line + 1
            raise ValueError(f"line {line}: {twice[0]} stands twice: keep one of the two")
        return super().construct_mapping(node, deep)


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str, folder: str | os.PathLike[str], where: str, above: tuple[Path, ...] = ()) -> Any:
    """The value of a YAML text; a mapping with ``defaults`` is laid over the files that it names.

    Args:
        text: the YAML.
        folder: where names under ``defaults`` start from.
        where: what an error calls the text.
        above: files whose defaults this text is.

    Raises:
        ValueError: no YAML, a key twice, defaults that are missing, no mapping or in a circle; the line says where.
    """
    try:
        value = yaml.load(text, Loader=_Yaml)
    except yaml.MarkedYAMLError as error:
        place = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{where}{place} is no valid YAML ({error.problem}): correct it") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict) or "defaults" not in value:
        return value
    names = value.pop("defaults")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{where}: defaults is {names!r}: give a list of YAML files")
    merged: Any = {}
    for name in names:
        merged = lay_over(merged, read_yaml(Path(folder) / name, f"{where}: defaults", above))
    return lay_over(merged, value)


def read_yaml(path: str | os.PathLike[str], where: str = "", above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The mapping of a YAML file, laid over those that its ``defaults`` name (relative to it, later ones on top)."""
    path, start = Path(path), f"{where}: " if where else ""
    if not path.is_file():
        raise FileNotFoundError(f"{start}{path} does not exist: give a YAML file")
    known = path.resolve()
    if known in above:
        raise ValueError(f"{start}{path} has itself among its defaults: take it out")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: convert it") from None
    value = parse_yaml(text, path.parent, str(path), (*above, known))
    if not isinstance(value, dict):
        raise ValueError(f"{path} is no configuration: a YAML mapping is expected")
    return value


def lay_over(under: Any, over: Any) -> Any:
    """``over`` on top of ``under``: mappings key by key, anything else replaces.

    A mapping of another ``class_path`` replaces too: settings of one class are none of another's.
    """
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    if "class_path" in over and over["class_path"] != under.get("class_path", over["class_path"]):
        return over
    merged = {**under, **{key: lay_over(under.get(key), value) for key, value in over.items()}}
    # a class comes before its settings, wherever it was named
    return {"class_path": merged.pop("class_path"), **merged} if "class_path" in merged else merged
