"""Cells: reading the declarative files of ``experiments/cells``. A file says what is done, and what one cell changes.

::

    title, question          for the reader
    stages                   what is done (see experiments.cells.plan); the last one leaves the clips that are judged
    cells: {name: delta}     cells by hand; an empty delta is the chain's own setting
    factors: {factor: {key, values} | {name: delta}}     one factor at a time: a cell for each value, never a factorial
    matrix: {name, rows, columns}      a table of two things that is itself the result (train head x forward head)
    against                  what a cell is compared with: a cell, or a template over the matrix
    pairs: [[cell, other]]   further comparisons
    loudness, analysis       protocols to judge under (locked); what the report computes beyond the table

A delta maps stages to settings; ``set`` holds dotted keys of the configuration; ``take`` names another last stage.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from experiments.cells.plan import Stages
from experiments.chain.numbers import CHOICES

FOLDER = Path(__file__).parent
Delta = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        name: of its row.
        group: factor, or row of the matrix; cells of a group share an axis.
        stages: with the delta laid over them.
        take: the stage whose clips are judged.
        delta: what was changed, for the report.
        against: the cell it is compared with; empty for none.
    """

    name: str
    group: str
    stages: Stages
    take: str
    delta: Delta
    against: str = ""


@dataclass(frozen=True)
class Experiment:
    """A file of cells."""

    name: str
    title: str
    question: str
    cells: list[Cell]
    loudness: list[str] = field(default_factory=lambda: ["locked"])
    analysis: str = ""
    pairs: list[tuple[str, str]] = field(default_factory=list)


def names() -> list[str]:
    """Experiments that are there, by the order in which they are worth running: cheap and informative first."""
    found = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.yaml")}
    return sorted(found, key=lambda name: (found[name]["order"], name))


def read_experiment(name: str, smoke: bool = False) -> Experiment:
    """An experiment by its name, or from a file of the user's.

    Args:
        name: ``guidance``, or a path of a YAML like those in ``experiments/cells``.
        smoke: keep two cells of every factor and a 2 x 2 corner of the matrix: enough to see that all of it runs.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"experiment {name!r} is unknown: choose among {', '.join(names())}, or give a YAML of cells")
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = {"order", "title", "question", "stages", "cells", "factors", "matrix", "against", "pairs",
             "loudness", "analysis"}  # fmt: skip
    if not isinstance(said, dict) or not {"title", "question", "stages"} <= set(said):
        raise ValueError(f"{path}: needs title, question and stages")
    if strange := sorted(set(said) - known):
        raise ValueError(f"{path}: unknown {', '.join(strange)}; it may hold {', '.join(sorted(known))}")
    cells = [*_by_hand(said, smoke), *_factors(said, smoke), *_matrix(said, smoke)]
    if len({cell.name for cell in cells}) < len(cells):
        raise ValueError(f"{path}: two cells share a name")
    if len(cells) < 2:
        raise ValueError(f"{path}: {len(cells)} cells, a comparison needs two")
    there = {cell.name for cell in cells}
    pairs = [(str(one), str(other)) for one, other in said.get("pairs") or [] if not smoke or {one, other} <= there]
    unknown = ({cell.against for cell in cells if cell.against} | {name for pair in pairs for name in pair}) - there
    if unknown:
        raise ValueError(f"{path}: against names {', '.join(sorted(unknown))}, which is no cell")
    return Experiment(path.stem, said["title"], " ".join(said["question"].split()), cells,
                      said.get("loudness", ["locked"]), said.get("analysis", ""), pairs)  # fmt: skip


def _by_hand(said: Delta, smoke: bool) -> list[Cell]:
    cells = said.get("cells") or {}
    kept = list(cells.items())[: 3 if smoke else None]
    return [_cell(said, name, "", delta or {}, said.get("against", "")) for name, delta in kept]


def _factors(said: Delta, smoke: bool) -> list[Cell]:
    found = []
    for factor, values in (said.get("factors") or {}).items():
        deltas = _values(values)
        least = 1 if said.get("cells") else 2  # without a common base a factor is compared within itself
        for name, delta in list(deltas.items())[: least if smoke else None]:
            found.append(_cell(said, f"{factor} {name}", factor, delta, said.get("against", "")))
    return found


def _matrix(said: Delta, smoke: bool) -> list[Cell]:
    matrix = said.get("matrix")
    if not matrix:
        return []
    rows, columns = (list(_values(matrix[side]).items())[: 2 if smoke else None] for side in ("rows", "columns"))
    found = []
    for row, first in rows:
        for column, second in columns:
            against = said.get("against", "").format(row)
            inside = against in {matrix["name"].format(row, other) for other, _ in columns}
            name = matrix["name"].format(row, column)
            found.append(_cell(said, name, row, _merged(first, second), against if inside else ""))
    return found


def _values(values: Delta) -> dict[str, Delta]:
    """``{key, values}`` spelled out as ``{name: delta}``."""
    if set(values) != {"key", "values"}:
        return {str(name): delta or {} for name, delta in values.items()}
    stage, _, key = values["key"].partition(".")
    # a setting of the stage itself, or a dotted key of its configuration
    inside = key in ("from", "head", "seed", "per_prompt", *CHOICES)
    return {str(value): {stage: {key: value} if inside else {"set": {key: value}}} for value in values["values"]}


def _cell(said: Delta, name: str, group: str, delta: Delta, against: str) -> Cell:
    delta = dict(delta)
    take = delta.pop("take", list(said["stages"])[-1])
    if unknown := sorted((set(delta) | {take}) - set(said["stages"])):
        raise ValueError(f"cell {name}: no stage is called {', '.join(unknown)}")
    return Cell(name, group, _merged(said["stages"], delta), take, delta, "" if against == name else against)


def _merged(base: Delta, delta: Delta) -> Delta:
    """``delta`` laid over ``base``, mapping by mapping."""
    result = copy.deepcopy(base)
    for key, value in delta.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else copy.deepcopy(value)
    return result
