"""Every callback that measures, over small parts, and a stage whose head is awake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
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
