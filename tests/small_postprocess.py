"""Post-processing in miniature: a tone, and a Demucs bag of one tiny network."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

RATE = 44100


def tone(seconds: float = 2.0, level: float = 0.3, frequency: float = 440.0) -> torch.Tensor:
    time = torch.arange(int(seconds * RATE)) / RATE
    return level * torch.sin(2 * math.pi * frequency * time)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Demucs bag of one tiny HDemucs with random weights, in the format that demucs reads."""
    from demucs.hdemucs import HDemucs
    from demucs.states import save_with_checksum, serialize_model
    from omegaconf import OmegaConf

    folder = tmp_path_factory.mktemp("bag")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = HDemucs(["drums", "bass", "other", "vocals"], channels=4, samplerate=RATE, segment=4)
    save_with_checksum(serialize_model(model, OmegaConf.create({}), half=False), folder / "a0a0a0a0.th")
    (folder / "tiny.yaml").write_text("models: ['a0a0a0a0']\nsegment: 4\n")
    return folder
