"""An evaluation in miniature: two rendered systems, a folder of real clips, and judges that count their calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from fluxlight.evaluation.evaluate import evaluate
from fluxlight.evaluation.measure import reference_from_files

RATE, SECONDS = 16000, 1.5
IDS = [f"p{k:02d}" for k in range(12)]
PROMPTS = [{"id": i, "prompt": "bass " * (1 + k % 4) + "tune"} for k, i in enumerate(IDS)]


class FakeClap:
    """Audio: level in four bands. Text: its words counted. Both as unit vectors; every call is counted."""

    def __init__(self, name: str = "fake-clap-1") -> None:
        self.identity, self.calls = name, 0

    def embed_audio(self, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
        self.calls += 1
        power = torch.fft.rfft(audio).abs().square()
        power = power[..., : power.shape[-1] // 2]  # the clips live below 4 kHz
        bands = torch.stack([part.mean(-1) for part in power.tensor_split(4, -1)], -1).sqrt()
        return torch.nn.functional.normalize(torch.cat([bands, bands.flip(-1) * 0.1], -1) + 1e-6, dim=-1)

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        rows = [torch.linspace(len(text) / 10, 1, 8) for text in texts]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


class FakeReward:
    """Prefers steady clips; a scale apart for each prompt length."""

    def __init__(self, name: str = "fake-reward-1") -> None:
        self.identity, self.calls = name, 0

    def score(self, audio: torch.Tensor, sample_rate: int, prompts: list[str]) -> torch.Tensor:
        self.calls += 1
        assert torch.isfinite(audio).all()
        return -audio.std(-1) + torch.tensor([len(p) / 100 for p in prompts])


def render(folder: Path, seed: int, noise: float, names: list[str] = IDS, suffix: str = "wav") -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    time = np.arange(int(RATE * SECONDS)) / RATE
    for k, name in enumerate(names):
        tone = 0.3 * np.sin(2 * np.pi * (200 + 90 * (k % 12)) * time) + noise * rng.normal(size=time.size)
        soundfile.write(folder / f"{name}.{suffix}", np.clip(tone, -0.9, 0.9), RATE)
    return folder


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path / "cache"))
    systems = {"row0": render(tmp_path / "row0", 1, 0.1), "row1": render(tmp_path / "row1", 2, 0.02)}
    reference_folder = render(tmp_path / "real", 3, 0.03, [f"r{k}" for k in range(30)])
    return tmp_path, systems, reference_folder


def judges() -> tuple[dict, dict]:
    claps = {"clap_b": FakeClap("fake-b"), "clap_a": FakeClap("fake-a")}
    return claps, {"reward_a": FakeReward("fake-ra"), "reward_b": FakeReward("fake-rb")}


def run(world, out: Path, **settings) -> dict:
    _, systems, folder = world
    claps, rewards = judges()
    reference = reference_from_files(sorted(folder.iterdir()), claps["clap_b"], "locked", "real")
    return evaluate(systems, PROMPTS, reference, claps, rewards, {"clap_a", "reward_a"}, out, seconds=SECONDS,
                    **{"resamples": 60, "repeats": 5, "plots": False, **settings})  # fmt: skip


def prompts_file(folder: Path) -> Path:
    path = folder / "prompts.csv"
    path.write_text("id,prompt\n" + "".join(f'{p["id"]},"{p["prompt"]}"\n' for p in PROMPTS))
    return path


def sample(n: int, d: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """``n`` embeddings of ``d`` features that spread differently."""
    return np.random.default_rng(seed).normal(size=(n, d)) * np.linspace(0.2, 1.5, d) * scale + shift
