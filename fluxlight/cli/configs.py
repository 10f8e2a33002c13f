"""Configs of a command line: files with ``defaults``, and classes that no later file may switch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonargparse
import yaml
from jsonargparse.typing import path_type

from fluxlight.files import parse_yaml, read_yaml

MODE = "omegaconf+"
"""Parser mode of every config: ${...} is resolved once, after all configs and flags are merged."""


def use_defaults() -> None:
    """Let every config name others under ``defaults``, merged before any class is looked at (Hydra's idiom)."""
    jsonargparse.set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    # jsonargparse makes the loader of this mode when it first reads something
    first = jsonargparse.ArgumentParser(parser_mode=MODE)
    first.add_argument("--key")
    first.parse_string("key: word")
    plain = jsonargparse.get_loader(MODE)
    if getattr(plain, "has_defaults", False):
        return

    def load(text: str) -> Any:
        if "defaults:" in text:
            # "." is the folder of the config that is being read
            return plain(_merged(text, path_type("dr")(".").absolute))
        return plain(_alone(text) if "\n" in text else text)

    load.has_defaults = True  # type: ignore[attr-defined]
    jsonargparse.set_loader(MODE, load, exceptions=(yaml.YAMLError, ValueError))


def _merged(text: str, folder: str) -> str:
    """A config over those its ``defaults`` name, as one text."""
    value = parse_yaml(text, folder, "the config")
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True) if isinstance(value, dict) and value else text


@lru_cache(maxsize=256)
def _alone(text: str) -> str:
    """The same of a text that names no other: jsonargparse asks for the settings of each class several times."""
    return _merged(text, ".")


def refuse_switches(args: Sequence[str]) -> None:
    """Refuse a model or data class that a later config or flag puts in the place of an earlier one.

    Settings of equal name would be kept from the first class and all others fall to the defaults of the second, without
    a word: its optimiser, its seeds.
    """
    known: dict[str, tuple[str, str]] = {}
    for part, name, where in _classes(args):
        before, first = known.setdefault(part, (name, where))
        if before.rsplit(".", 1)[-1] != name.rsplit(".", 1)[-1]:
            raise ValueError(
                f"{where} switches {part} from {before} ({first}) to {name}: settings of the one would be kept or lost "
                f"under the other; start from the YAML of {name.rsplit('.', 1)[-1]} (configs/stages)"
            )


def _classes(args: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Part, class and origin of every model and data class that a command line names, in its order."""
    words = [word for arg in args for word in (arg.split("=", 1) if arg.startswith("--") else [arg])]
    for flag, value in itertools.pairwise(words):
        if flag in ("--config", "-c") and Path(value).is_file():
            config = read_yaml(value)
            for part in ("model", "data"):
                given = config.get(part)
                if isinstance(given, str) or (isinstance(given, dict) and isinstance(given.get("class_path"), str)):
                    yield part, given if isinstance(given, str) else given["class_path"], value
        elif flag in ("--model", "--data", "--model.class_path", "--data.class_path") and not value.startswith("{"):
            yield flag[2:].split(".")[0], value, flag


def steps_of(args: Sequence[str]) -> tuple[str, ...]:
    """Names of the steps that the configs of a command line have in their ``plan``, each once.

    A step is added by a file alone, so that a misspelled flag is still refused.
    """
    words = [word for arg in args for word in (arg.split("=", 1) if arg.startswith("--") else [arg])]
    files = [value for flag, value in itertools.pairwise(words) if flag in ("--config", "-c")]
    plans = [read_yaml(file).get("plan") for file in files if Path(file).is_file()]
    return tuple(dict.fromkeys(name for plan in plans if isinstance(plan, dict) for name in plan))
