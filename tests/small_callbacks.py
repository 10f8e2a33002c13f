"""Every callback that measures, over small parts, and a stage whose head is awake."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from small_world import SmallCodec, SmallJudge, SmallReward, make_stage, wake

from callbacks import (
    CLAPCallback,
    DiversityCallback,
    FADCallback,
    KADCallback,
    MADCallback,
    RenderSlice,
    RewardCallback,
    SliceMedia,
)
from fluxlight.heads import GlobalAdaLN  # type: ignore[attr-defined]
from fluxlight.metrics import Reference
from fluxlight.postprocess import Loudness
from fluxlight.rewards import Reward


class LovesClipping(Reward):
    """A planted fault of a reward: the flatter the tops of the waves, the better."""

    identity = "loves-clipping"

    def score(self, audio: torch.Tensor, sample_rate: int, prompts: Sequence[str]) -> torch.Tensor:
        peak = audio.abs().amax(1, keepdim=True)
        return 10 * (audio.abs() > 0.9 * peak).float().mean(1)


class HearsClipping(Reward):
    """A judge that nothing trains on: peak over rms, which clipping lowers."""

    identity = "hears-clipping"

    def score(self, audio: torch.Tensor, sample_rate: int, prompts: Sequence[str]) -> torch.Tensor:
        return audio.abs().amax(1) / audio.square().mean(1).sqrt()


def guard_world(folder: Path) -> str:
    """A world whose driving reward has the planted fault and whose other judges have not."""
    path = folder / "world.yaml"
    path.write_text(
        "judges:\n  claps:\n    ear: {class_path: small_world.SmallJudge}\n  rewards:\n"
        "    planted: {class_path: small_callbacks.LovesClipping}\n"
        "    judge: {class_path: small_callbacks.HearsClipping}\n  optimised: [planted]\n"
    )
    return str(path)


def all_callbacks(folder: Path) -> list[Any]:
    judge, path = SmallJudge(), folder / "reference.safetensors"
    if not path.exists():
        rng = np.random.default_rng(0)
        audio = rng.normal(size=(9, 800)) * rng.uniform(0.1, 0.5, size=(9, 1))
        Reference.from_embeddings(judge.embed_audio(audio, 8000), judge.identity, 8000, loudness="locked").save(path)
    return [
        RenderSlice(SmallCodec(), [Loudness()]), FADCallback(judge, str(path)), KADCallback(judge, str(path)),
        MADCallback(judge, str(path)), DiversityCallback(judge), CLAPCallback(judge), RewardCallback(SmallReward()),
        SliceMedia(2),
    ]  # fmt: skip


def woken() -> Any:
    stage = make_stage(head=GlobalAdaLN)
    wake(stage.model, 0.1)
    return stage
