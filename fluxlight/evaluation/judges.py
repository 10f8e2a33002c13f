"""Judge sets: who judges in a world, under the names that tables use."""

from __future__ import annotations

from typing import Any

from fluxlight.encoders.base import TextAudioModel
from fluxlight.evaluation.judging import Judges
from fluxlight.recorded import find_class
from fluxlight.rewards.base import Reward
from fluxlight.worlds import read_world


def load_judges(name: str = "embedded") -> Judges:
    """The judges of a world; the first CLAP, on which nothing is optimised, gives FAD.

    Args:
        name: of the world ("embedded", "published"), or the path of a world's YAML (`fluxlight.worlds`).

    Raises:
        FileNotFoundError: published weights are absent; the line says which and where they come from.
        ValueError: the world is not known, or names a judge that is none.
    """
    given = read_world(name).get("judges")
    if not isinstance(given, dict) or not given.get("claps"):
        raise ValueError(f"world {name} has no judges: give claps, rewards and which of them are optimised on")
    claps: dict[str, Any] = {key: _make(key, part, TextAudioModel, {}) for key, part in given["claps"].items()}
    rewards = {key: _make(key, part, Reward, claps) for key, part in (given.get("rewards") or {}).items()}
    return Judges(claps, rewards, frozenset(given.get("optimised") or ()))


def _make(name: str, part: Any, base: type[Any], claps: dict[str, Any]) -> Any:
    if not isinstance(part, dict) or "class_path" not in part or set(part) - {"class_path", "init_args", "clap"}:
        raise ValueError(f"judge {name} is {part!r}: give class_path, and init_args and clap if any")
    kind, settings = find_class(part["class_path"]), dict(part.get("init_args") or {})
    if not issubclass(kind, base):
        raise ValueError(f"judge {name}: {part['class_path']} is no {base.__name__}")
    if "clap" in part:
        if part["clap"] not in claps:
            raise ValueError(f"judge {name} stands on {part['clap']!r}: name one of the claps, {', '.join(claps)}")
        settings["clap"] = claps[part["clap"]]
    try:
        return kind(**settings)
    except TypeError as error:
        raise ValueError(f"judge {name}: settings of {part['class_path']} do not fit ({error})") from None
