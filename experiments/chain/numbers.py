"""Numbers: the chain file of a scale, what its keys mean on a command line, and where configs and weights lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fluxlight.files import read_yaml

ROOT = Path(__file__).resolve().parents[2]
"""Where ``configs`` lies."""
CHOICES = ("weight_reward", "weight_clap", "top", "among", "cap", "least", "label", "by", "key", "margin",
           "primary", "secondary", "share")  # fmt: skip
"""Settings of ``fluxlight select`` that a chain file may have beside the candidates."""
TITLES = ("0 baseline", "1 score-cond. SFT", "2c equal further training", "2 expert iteration", "3 cross-load v2",
          "4 CRPO")  # fmt: skip
"""Rows of the table; each is compared with the one before it, Row 2 with its control."""
SHARED = ("corpus", "first", "stores")
"""Steps that all trainings stand on."""
FIRST = 12
"""Prompts that are heard first: real, through the codec, from the trunk (our choice)."""


def asked(numbers: dict[str, Any]) -> tuple[str, ...]:
    """Which score candidates are asked for: a quantile of the training scores, or the score itself."""
    if numbers["score_quantile"] is not None:
        return ("--model.score_quantile", str(numbers["score_quantile"]))
    return ("--model.score_quantile", "null", "--model.sampler.score", str(numbers["score"]))


def shipped_weights() -> tuple[str, ...]:
    """The frozen weights of codec and judges: another version of them makes another table."""
    return tuple(map(str, sorted((ROOT / "fluxlight" / "embedded" / "weights").glob("*.safetensors"))))


def shown(path: Path) -> str:
    """A path as short as it can be typed from here."""
    short = os.path.relpath(path)
    return str(path) if short.startswith("..") else short


def read_numbers(scale: str) -> dict[str, Any]:
    """The chain file of a scale, by its name or as a path of its own."""
    folder = ROOT / "configs" / "chain"
    path = Path(scale) if scale.endswith((".yaml", ".yml")) else folder / f"{scale}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ValueError(f"scale {scale!r} is unknown: choose one of {known}, or give a YAML like configs/chain/*.yaml")
    numbers = read_yaml(path)
    wanted = {"overlay", "corpus", "trunk", "experts", "pairs", "sweep", "resamples"}
    if not isinstance(numbers, dict) or wanted - set(numbers):
        lacking = ", ".join(sorted(wanted - set(numbers or ())))
        raise ValueError(f"{path} lacks {lacking}: start from configs/chain/debug.yaml")
    if numbers["trunk"] not in (True, False, "shipped"):
        raise ValueError(f"{path}: trunk is {numbers['trunk']!r}: give true, false or shipped")
    for split, n in (numbers["corpus"] or {}).items():
        if not ((type(n) is int and n > 0) or (split, n) == ("reference", "shipped")):
            more = ", or shipped" if split == "reference" else ""
            raise ValueError(f"{path}: corpus.{split} is {n!r}: give a number of clips{more}")
    if numbers["sweep"]["points"] < 2:
        raise ValueError(f"{path}: sweep.points is {numbers['sweep']['points']}, a slope needs at least 2")
    if not numbers["corpus"] and {"store", "slice", "reference"} - set(numbers.get("stores") or ()):
        raise ValueError(f"{path}: corpus is null, so stores must name store, slice and reference")
    return numbers


def folder_of(title: str) -> str:
    """Folder of a row of the table."""
    return f"row{title.split()[0]}"
