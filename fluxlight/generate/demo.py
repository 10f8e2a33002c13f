"""The demo model: a small model folder that is installed with fluxlight, for a first sound without any training."""

from __future__ import annotations

from pathlib import Path

from fluxlight.bundle import RECIPE

NAME = "demo"
FOLDER = Path(__file__).resolve().parents[1] / "embedded" / NAME
"""Made from a row of the chain by ``fluxlight export ROW --half --samples 0 --table table.json --out`` this folder."""


def demo() -> Path:
    """The folder of the demo model.

    Raises:
        FileNotFoundError: this installation has none; the line says how to come by a model.
    """
    if not (FOLDER / RECIPE).is_file():
        raise FileNotFoundError(
            "no model is installed with fluxlight: make one with `python -m experiments.chain` (minutes, no network), "
            "then give --model runs/tiny/row2; or give --model hf://USER/NAME"
        )
    return FOLDER
