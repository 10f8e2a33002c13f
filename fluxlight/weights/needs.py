"""Which published files a configuration asks for, read from its YAML files; nothing is imported or made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluxlight.files import read_yaml
from fluxlight.weights.catalogue import CATALOGUE

FOLDER_KEY = "weights_folder"
"""Key of a config, at its top, that names the weights folder."""


@dataclass(frozen=True)
class Need:
    """A published file that a class of the config loads.

    Attributes:
        name: published name.
        path: where the config says it lies; None for the weights folder.
        asked_by: the class.
        optional: the class does without it.
    """

    name: str
    path: str | None
    asked_by: str
    optional: bool = False


Args = Mapping[str, Any]
Given = tuple[str, Any]


def _codec(args: Args) -> list[Given]:
    vocoder = "best_netG.pt" if args.get("mode") == "16k" else "bigvgan_v2_44khz_128band_512x"
    return [
        ("v1-16.pth" if args.get("mode") == "16k" else "v1-44.pth", args.get("vae")),
        (vocoder, args.get("vocoder")),
    ]


def _clap(args: Args) -> list[Given]:
    checkpoint = args.get("checkpoint") or "music_audioset_epoch_15_esc_90.14.pt"
    return [(checkpoint, args.get("path")), ("roberta-base", args.get("tokenizer"))]


def _reward(args: Args) -> list[Given]:
    own = [] if args.get("clap") else _clap({})
    return [("tunejury.pt", args.get("head")), *own, *([] if args.get("mert") else [("MERT-v1-330M", None)])]


def _demucs(args: Args) -> list[Given]:
    # "hub": the demucs package sees to it
    return [] if args.get("folder") == "hub" else [(args.get("model") or "mdx_extra", args.get("folder"))]


_CLASSES: dict[str, Callable[[Args], list[Given]]] = {
    "MMAudioCodec": _codec,
    "T5": lambda args: [("flan-t5-large", args.get("path"))],
    "LaionClap": _clap,
    "Mert": lambda args: [("MERT-v1-330M", args.get("path"))],
    "TuneJuryReward": _reward,
    "Separate": _demucs,
    "PromptFile": lambda args: [("sdd100_prompts.json", args.get("path"))],
}


def read_configs(paths: Sequence[str | Path]) -> dict[str, Any]:
    """YAML files merged in order as the command line merges them: a later value wins, a list is replaced as a whole."""
    merged: dict[str, Any] = {}
    for path in paths:
        merged = _merge(merged, read_yaml(path))
    return merged


def _merge(old: Any, new: Any) -> Any:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    out = dict(old)
    for key, value in new.items():
        if str(key).endswith("+") and isinstance(value, list):
            out[key[:-1]] = [*(out.get(key[:-1]) or []), *value]
        else:
            out[key] = _merge(out.get(key), value)
    return out


def needs(config: Mapping[str, Any]) -> list[Need]:
    """Every file that the classes of a merged config load, each (name, path) once, in order of appearance."""
    found: dict[tuple[str, str | None], Need] = {}
    start = _start(config)
    if start is not None and Path(start).name in CATALOGUE:
        need = Need(Path(start).name, start, "init_from")
        found[need.name, need.path] = need
    for name, args in _classes(config):
        for file, path in _CLASSES[name](args):
            need = Need(file, str(path) if path else None, name, bool(args.get("optional")))
            known = found.setdefault((need.name, need.path), need)
            if known.optional and not need.optional:
                found[need.name, need.path] = need
    return list(found.values())


def _start(config: Mapping[str, Any]) -> str | None:
    """What a stage starts from, where it says."""
    model = config.get("model")
    args = model.get("init_args") if isinstance(model, dict) else None
    start = args.get("init_from") if isinstance(args, dict) else None
    return start if isinstance(start, str) else None


def _classes(value: Any) -> Iterator[tuple[str, Args]]:
    if isinstance(value, dict):
        path = value.get("class_path")
        if isinstance(path, str) and _short(path) in _CLASSES:
            yield _short(path), value.get("init_args") or {}
        for key, item in value.items():
            if key != "class_path":
                yield from _classes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _classes(item)
    elif isinstance(value, str) and _short(value) in _CLASSES:
        # a class without settings may be given by its path alone
        yield _short(value), {}


def _short(path: str) -> str:
    return path.rpartition(".")[2]
