"""The golden vectors of the published backbone, and the small network that they belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fluxlight.backbone import FluxAudio
from fluxlight.model import FluxModel
from fluxlight.types import Condition
from fluxlight.weights.fluxaudio import load_published


class Golden:
    """Vectors and settings of the small published network."""

    def __init__(self, folder: Path) -> None:
        self.meta = json.loads((folder / "fluxaudio_small_golden.json").read_text())
        self.tensors = load_file(folder / "fluxaudio_small_golden.safetensors")
        self.state = {k[3:]: v for k, v in self.tensors.items() if k.startswith("sd.")}

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def model(self, **changes: Any) -> FluxModel:
        model = FluxModel(FluxAudio(**{**self.meta["model_config"], **changes}))
        load_published(model, self.state)
        return model

    @property
    def condition(self) -> Condition:
        return Condition(self["in.text_f"], self["in.text_f_c"])


@pytest.fixture(scope="module")
def vectors(golden: Path) -> Golden:
    return Golden(golden)


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)
