"""Online runs in the small world: a reward of latents that counts how often it is asked, and a run to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from small_world import make_data, make_stage, make_trainer, wake
from torch import Tensor

from callbacks import BundleWriter, LastCheckpoint
from fluxlight.losses.awm import AWMLoss
from fluxlight.rewards.rollout import RolloutReward
from fluxlight.sample import Sampler
from fluxlight.stages import Online


class Lowest(RolloutReward):
    """The lower the latents, the better."""

    identity = "lowest-1"

    def __init__(self) -> None:
        self.calls = 0

    def score(self, latents: Tensor, prompts: Any) -> Tensor:
        self.calls += 1
        return -latents.flatten(1).mean(1)


def online(head: Any = None, rate: float = 1e-3, decay: float = 0.01, **settings: Any) -> Any:
    """A stage with two clips of a caption at two noise levels."""
    given = {"loss": AWMLoss(weight="uniform"), "per_prompt": 2, "times": 2, "rollout": Sampler(2, cfg_weight=1.0)}
    given["optimizer"] = lambda p: torch.optim.AdamW(p, lr=rate, weight_decay=decay)
    return make_stage(Online, head, **{"reward": Lowest(), **given, **settings})


def run_online(
    folder: Path, run: str, ckpt: bool = False, callbacks: Any = (), data: dict[str, Any] | None = None,
    make_stage_head: Any = None, max_steps: int = 8, **settings: Any,
) -> Any:  # fmt: skip
    """The stage of a run to its end, from woken weights."""
    loop = ("devices", "strategy", "limit_val_batches", "accumulate_grad_batches")
    trainer = {name: settings.pop(name) for name in loop if name in settings}
    stage = online(make_stage_head, **settings)
    wake(stage.model, 0.1)
    fit = make_trainer(folder / run, [*callbacks, BundleWriter(), LastCheckpoint()], max_steps, **trainer)
    path = str(folder / run / "last.ckpt") if ckpt else None
    fit.fit(stage, datamodule=make_data(folder, **(data or {})), ckpt_path=path)
    return stage
