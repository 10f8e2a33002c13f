"""Adding a thing is one short file: each is dropped into a copy of the tree and run by the public command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
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

MEASURE = '''"""MyMeasure: the largest cosine distance of two clips."""

from typing import Any

from fluxlight.measures.base import Measure
from fluxlight.metrics.resampling import Gram
from fluxlight.metrics.arrays import unit_rows


class Widest:
    def __init__(self, clips: Any) -> None:
        rows = unit_rows(clips)
        self.n, self.far = len(rows), 1 - rows @ rows.T

    def distance(self, counts: Any | None = None) -> float:
        kept = slice(None) if counts is None else counts > 0
        return float(self.far[kept][:, kept].max())


class MyMeasure(Measure):
    name, label, better = "my_measure", "widest pair", "neither"

    def gram(self, clips: Any) -> Gram:
        return Widest(clips)

    def floor(self, held_out: Any, rest: Any) -> float:
        return Widest(held_out).distance()
'''

REWARD = '''"""MyReward: loud clips are good."""

from collections.abc import Sequence

from torch import Tensor

from fluxlight.rewards.base import Reward, check_audio


class MyReward(Reward):
    identity = "my-reward-v1"

    def score(self, audio: Tensor, sample_rate: int, prompts: Sequence[str]) -> Tensor:
        return check_audio(audio, sample_rate).abs().mean(1)
'''

WORLD = """defaults: [fluxlight/worlds/embedded.yaml]
judges:
  rewards:
    mine: {class_path: my_reward.MyReward}
"""

RECIPE = """defaults: [../base.yaml]
plan:
  mine: {updates: 4, batch: 4, accumulate: 1, lr: 1.0e-3, warmup: 1, epoch: 2}
model:
  class_path: MyStage
  init_args:
    head: {class_path: MyHead, init_args: {gain: 2.0}}
    optimizer: {init_args: {lr: "${plan.mine.lr}"}}
    schedule: {warmup: "${plan.mine.warmup}"}
data:
  class_path: SFTData
  init_args: {batch_size: "${plan.mine.batch}", batches_per_epoch: "${plan.mine.epoch}"}
trainer:
  max_steps: ${plan.mine.updates}
  accumulate_grad_batches: ${plan.mine.accumulate}
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
    (folder / "fluxlight/measures/my_measure.py").write_text(MEASURE)
    (folder / "my_reward.py").write_text(REWARD)
    (folder / "my_world.yaml").write_text(WORLD)
    (folder / "fluxlight/stages/my_stage.py").write_text(STAGE)
    (folder / "configs/stages/my_stage.yaml").write_text(RECIPE)
    make_world(folder)
    make_candidates(folder / "c", folder / "store")
    return folder


def run(tree: Path, *words: str) -> None:
    """Run a verb of the command line in the copy."""
    environment = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{ROOT / 'tests'}"}
    words = (sys.executable, "-m", "fluxlight", *words)
    done = subprocess.run(words, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-800:]


def fit(tree: Path, name: str, *more: str) -> dict[str, list[float]]:
    """Run ``fluxlight fit`` in the copy; the columns of its log."""
    run(tree, "fit", *more, "--config", "small.yaml", "--trainer.default_root_dir", f"runs/{name}")
    lines = [line.split(",") for line in (tree / f"runs/{name}/logs/version_0/metrics.csv").read_text().splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    return {key: [float(row[key]) for row in rows if row[key]] for key in lines[0]}


def test_a_stage_and_a_head_are_one_file_each_and_a_short_recipe(tree: Path) -> None:
    assert len(RECIPE.splitlines()) <= 40
    found = fit(tree, "mine", "--config", "configs/stages/my_stage.yaml")
    assert len(found["train/loss"]) == 4, "the updates of its own step of the plan"
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


def test_a_measure_and_a_reward_are_one_file_each(tree: Path) -> None:
    """Both in a table made by the public command; the weights of the judges are the shipped ones."""
    for path in (ROOT / "fluxlight/embedded/weights").glob("*.safetensors"):
        shutil.copy(path, tree / "fluxlight/embedded/weights" / path.name)
    rng = np.random.default_rng(0)
    for system in ("a", "b"):
        (tree / system).mkdir()
        for k in range(4):
            wave = 0.1 * np.sin(np.arange(44_100) * rng.uniform(0.01, 0.1)) + 0.01 * rng.normal(size=44_100)
            soundfile.write(tree / system / f"p{k}.wav", wave, 44_100)
    (tree / "prompts.csv").write_text("id,prompt\n" + "".join(f"p{k},tune {k}\n" for k in range(4)))
    run(tree, "evaluate", "--system", "a=a", "--system", "b=b", "--prompts", "prompts.csv", "--out", "table",
        "--judges", "my_world.yaml", "--extra", "my_measure", "--resamples", "50")  # fmt: skip
    table = json.loads((tree / "table/table.json").read_text())
    entry = table["tables"]["locked"]["systems"]["a"] if "tables" in table else table["systems"]["a"]
    assert "my_measure" in entry["distances"] and "mine" in entry["scores"]
    assert "widest pair" in (tree / "table/table.md").read_text()
