"""Adding a thing is one short file: each is dropped into a copy of the tree and run by the public command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_world import make_candidates, make_world

from fluxlight.bundle import read_recipe
from fluxlight.clips.candidates import read_candidates
from fluxlight.files import read_yaml

ROOT = Path(__file__).resolve().parents[1]

HEAD = '''"""My head: the score scales every latent token at the input."""

from torch import Tensor, nn

from fluxlight.heads.base import Injection, Ports, ScoreHead


class MyHead(ScoreHead):
    def __init__(self, ports: Ports, gain: float = 1.0) -> None:
        super().__init__(ports)
        self.gain = gain
        self.project = nn.Linear(ports.width, ports.width, bias=False)

    def inject(self, embedding: Tensor, keep: Tensor) -> Injection:
        return Injection(input=self.gain * self.project(embedding)[:, None])
'''

PREFERENCE_LOSS = '''"""IPO: the margin is drawn to a finite goal."""

from torch import Tensor

from fluxlight.flow import Prediction
from fluxlight.losses.base import Logs, PreferenceLoss
from fluxlight.losses.dpo import margin


class MyIPO(PreferenceLoss):
    def __init__(self, tau: float = 0.1) -> None:
        self.tau = tau

    def __call__(
        self, winner: Prediction, loser: Prediction, reference_winner: Prediction, reference_loser: Prediction
    ) -> tuple[Tensor, Logs]:
        off = margin(winner, loser, reference_winner, reference_loser) - 1 / (2 * self.tau)
        return off.square().mean(), {"off": off.mean().detach()}
'''

POLICY_LOSS = '''"""Weighted regression: good clips are learned, bad ones unlearned, near the old policy."""

from torch import Tensor

from fluxlight.flow import Prediction
from fluxlight.losses.base import Logs, PolicyLoss


class MyPolicy(PolicyLoss):
    def __call__(
        self, policy: Tensor, old: Tensor, reference: Tensor, target: Tensor, advantage: Tensor, t: Tensor
    ) -> tuple[Tensor, Logs]:
        pull = (advantage * Prediction(policy, target).error).mean()
        stay = Prediction(policy, old).error.mean()
        return pull + 5 * stay, {"pull": pull.detach()}
'''

STAGE = '''"""MyStage: supervised training in which high scores count more."""

from torch import Tensor

from fluxlight.stages.base import Stage
from fluxlight.types import Batch


class MyStage(Stage):
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        errors = self.predict(batch, self.draws(batch.mean.shape, batch_idx)).error
        return self.report((batch.score.sigmoid() * errors).mean(), len(errors))
'''

GUIDANCE = '''"""MyGuidance: the weight to a power."""

from fluxlight.guidance.base import Branch, Guidance


class MyGuidance(Guidance):
    def __init__(self, power: float = 1.0) -> None:
        self.power = power

    def factors(self, weight: float, score_weight: float | None) -> dict[Branch, float]:
        return {"conditional": weight**self.power, "negative": 1 - weight**self.power}
'''

RECIPE = """defaults: [../base.yaml]
plan:
  sft: {updates: 4, batch: 4, accumulate: 1, lr: 1.0e-3, warmup: 1, epoch: 2}
model:
  class_path: MyStage
  init_args:
    head: {class_path: MyHead, init_args: {gain: 2.0}}
data:
  class_path: SFTData
trainer:
  default_root_dir: runs/my_stage
"""

@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the new files, and data to train on."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("fluxlight", "callbacks", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    (folder / "fluxlight/heads/my_head.py").write_text(HEAD)
    (folder / "fluxlight/losses/my_ipo.py").write_text(PREFERENCE_LOSS)
    (folder / "fluxlight/losses/my_policy.py").write_text(POLICY_LOSS)
    (folder / "fluxlight/guidance/my_guidance.py").write_text(GUIDANCE)
    (folder / "fluxlight/stages/my_stage.py").write_text(STAGE)
    (folder / "configs/stages/my_stage.yaml").write_text(RECIPE)
    make_world(folder)
    make_candidates(folder / "c", folder / "store")
    return folder


def fit(tree: Path, name: str, *more: str) -> dict[str, list[float]]:
    """Run ``fluxlight fit`` in the copy; the columns of its log."""
    words = [sys.executable, "-m", "fluxlight", "fit", *more, "--config", "small.yaml"]
    words += ["--trainer.default_root_dir", f"runs/{name}"]
    environment = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(words, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-800:]
    lines = [line.split(",") for line in (tree / f"runs/{name}/logs/version_0/metrics.csv").read_text().splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    return {key: [float(row[key]) for row in rows if row[key]] for key in lines[0]}


def test_a_stage_and_a_head_are_one_file_each_and_a_short_recipe(tree: Path) -> None:
    assert len(RECIPE.splitlines()) <= 40
    found = fit(tree, "mine", "--config", "configs/stages/my_stage.yaml")
    assert len(found["train/loss"]) == 8
    head = read_recipe(tree / "runs/mine/bundle")["head"]
    assert head == {"class_path": "fluxlight.heads.my_head.MyHead", "init_args": {"gain": 2.0}}
    saved = read_yaml(tree / "runs/mine/config.yaml")
    assert saved["model"]["class_path"].endswith("MyStage")


@pytest.mark.parametrize(
    ("stage", "loss", "log"), [("preference", "MyIPO", "off"), ("offline_policy", "MyPolicy", "pull")]
)
def test_a_loss_is_one_file(tree: Path, stage: str, loss: str, log: str) -> None:
    recipe = f"configs/stages/{stage}.yaml"
    found = fit(tree, loss, "--config", recipe, "--data.pairs", "c/pairs.jsonl", "--model.loss", loss)
    assert len(found[f"train/{log}"]) == 8 and found[f"train/{log}"][0] != found[f"train/{log}"][-1]


def test_a_guidance_is_one_file(tree: Path) -> None:
    chosen = ("--model.sampler.guidance", "MyGuidance", "--model.sampler.guidance.power", "2.0")
    fit(tree, "guided", "--config", "configs/stages/my_stage.yaml", *chosen)
    kind = {"class_path": "fluxlight.guidance.my_guidance.MyGuidance", "init_args": {"power": 2.0}}
    rows = read_candidates(tree / "runs/guided/slice")
    assert rows and all(row.extra["sampler"]["guidance"] == kind and not row.error for row in rows)
