"""Online: rollouts from training captions alone, advantages in closed form, and runs that go on bit by bit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from safetensors.torch import load_file
from small_online import Lowest, online, run_online
from small_world import make_data, make_stage, make_store, wake

from fluxlight.data.rollouts import Captions
from fluxlight.data.store import LatentStore
from fluxlight.files import read_jsonl, read_yaml
from fluxlight.heads import GlobalAdaLN  # type: ignore[attr-defined]
from fluxlight.losses.awm import AWMLoss
from fluxlight.stages.advantages import advantages
from fluxlight.stages.frozen_copy import FrozenCopy


class Killed(Exception):
    """Ends a run where a signal would."""


class Kill(lightning.Callback):
    """Ends the run after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_train_batch_end(self, *args: Any) -> None:
        self.left -= 1
        if not self.left:
            raise Killed


def weights(folder: Path, run: str) -> bytes:
    return (folder / run / "bundle/weights.safetensors").read_bytes()


def test_advantages_are_centred_per_prompt_and_share_the_spread_of_the_epoch() -> None:
    draw = torch.Generator().manual_seed(0)
    rewards = torch.randn(5, 4, generator=draw) + 10 * torch.arange(5)[:, None]
    rewards[2] = 7.0
    rewards[3, 1] = math.nan
    rewards[4, 0] += 500
    found, said = advantages(rewards, limit=2.0)
    assert bool(found[2].isnan().all()) and bool(found[3, 1].isnan()) and int(found.isnan().sum()) == 5
    has = rewards[torch.isfinite(rewards)].double()
    spread = has.std(correction=0) + 1e-4
    torch.testing.assert_close(found[0], (rewards[0].double() - rewards[0].double().mean()) / spread)
    assert float(found[0].sum()) == pytest.approx(0, abs=1e-12) and float(found[3].nansum()) == pytest.approx(0)
    assert float(found[4, 0]) == 2.0, "clipped"
    assert said["flat_prompts"] == pytest.approx(0.2) and said["failed_clips"] == pytest.approx(0.05)
    assert said["reward"] == pytest.approx(float(has.mean())) and said["advantage_max"] == 2.0
    # whichever process had drawn which prompt: the order of prompts changes nothing but the order
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(advantages(rewards[order], 2.0)[0], found[order], equal_nan=True)
    with pytest.raises(ValueError, match="no rollout of this epoch has a reward"):
        advantages(torch.full((2, 2), math.nan))


def test_captions_are_distinct_and_none_of_the_slice(tmp_path: Path) -> None:
    store = LatentStore(make_store(tmp_path / "store"))
    same = LatentStore(make_store(tmp_path / "same", n=7, latents=False))  # its captions are those of the store
    captions = Captions(store, 3, same)
    assert captions.count == 17
    seen = [captions.of(epoch, 4) for epoch in range(8)]
    assert all(len(set(rows)) == 4 for rows in seen) and seen[0] != seen[4]
    assert len({row for rows in seen[:4] for row in rows}) == 16, "a pass takes every caption once"
    drawn = {store.rows[row]["caption"] for rows in seen for row in rows}
    assert not drawn & set(same.captions)
    with pytest.raises(ValueError, match="18 captions an epoch, but the training store has 17"):
        captions.of(0, 18)
    with pytest.raises(ValueError, match="no caption that is none of the slice"):
        Captions(store, 3, store)


def test_old_policy_moves_by_what_it_does_not_keep() -> None:
    model, copy = make_stage().model, FrozenCopy()
    copy.take(model)
    before = {name: value.clone() for name, value in model.named_parameters()}
    wake(model)
    copy.follow(model, 0.25)
    for name, value in copy.model.named_parameters():
        torch.testing.assert_close(value, 0.25 * before[name] + 0.75 * dict(model.named_parameters())[name])
    copy.follow(model, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(copy.model.parameters(), model.parameters(), strict=True))


def test_rollouts_are_rows_of_training_captions(tmp_path: Path) -> None:
    stage = run_online(tmp_path, "run", make_stage_head=GlobalAdaLN)
    rows = read_jsonl(tmp_path / "run/rollouts/rollouts.jsonl")
    assert len(rows) == 4 * 2 * 2, "4 epochs of 2 captions x 2 clips"
    keys = [(row["epoch"], row["id"], row["k"]) for row in rows]
    assert len(set(keys)) == len(keys) and len({row["seed"] for row in rows}) == len(rows)
    train = {row["id"]: row["caption"] for row in stage.trainer.datamodule.store.rows}
    slice_ids = {row["id"] for row in stage.trainer.datamodule.slice.rows}
    assert all(train[row["id"]] == row["prompt"] and row["id"] not in slice_ids for row in rows)
    latents = load_file(tmp_path / "run/rollouts" / rows[0]["latents"])["latents"]
    assert rows[0]["reward"] == pytest.approx(-float(latents[0].mean())) and latents.shape == (2, 12, 4)
    # neither old policy nor reference is trained or moved by the optimiser
    assert len(list(stage.parameters())) == len(list(stage.model.parameters()))
    said = stage.trainer.callback_metrics
    assert {"train/reward", "train/flat_prompts", "train/rollout_rms", "train/moved", "train/drift"} <= said.keys()
    assert float(said["train/drift"]) > 0


@pytest.mark.parametrize(("batches", "accumulate"), [(8, 1), (10, 2)])
def test_a_killed_run_reads_what_it_drew_and_ends_in_the_same_bytes(
    tmp_path: Path, batches: int, accumulate: int
) -> None:
    """Killed within an epoch and at its end, with checkpoints within epochs too."""
    more: dict[str, Any] = {"accumulate_grad_batches": accumulate, "max_steps": 16 // accumulate}
    more["data"] = {"batches_per_epoch": 4}
    run_online(tmp_path, "whole", replay=0.5, **more)
    with pytest.raises(Killed):
        run_online(tmp_path, "cut", replay=0.5, callbacks=[Kill(batches)], **more)
    torch.manual_seed(77)
    stage = run_online(tmp_path, "cut", replay=0.5, ckpt=True, **more)
    assert weights(tmp_path, "cut") == weights(tmp_path, "whole")
    names = ("rollouts/rollouts.jsonl",)
    assert all((tmp_path / "cut" / n).read_bytes() == (tmp_path / "whole" / n).read_bytes() for n in names)
    drawn = len(read_jsonl(tmp_path / "cut/rollouts/rollouts.jsonl")) // 2
    # the epoch in which it was killed was drawn before
    assert stage.reward.calls == drawn - 4 * math.ceil(batches / 4)
    old = [torch.load(tmp_path / run / "last.ckpt", weights_only=True)["old policy"] for run in ("whole", "cut")]
    assert old[0]["epoch"] == old[1]["epoch"] == 3
    assert all(torch.equal(value, old[1]["state"][name]) for name, value in old[0]["state"].items())


def test_rollouts_of_another_run_and_damaged_ones_are_not_taken(tmp_path: Path) -> None:
    """Another seed in the same folder: everything is drawn anew and stands beside the old rows."""
    run_online(tmp_path, "run", max_steps=2)
    stage = run_online(tmp_path, "run", max_steps=2, seed=1)
    rows = read_jsonl(tmp_path / "run/rollouts/rollouts.jsonl")
    assert stage.reward.calls == 2 and len(rows) == 8 and len({row["drawn"] for row in rows}) == 2
    assert len({row["latents"] for row in rows}) == 4
    for path in (tmp_path / "run/rollouts/latents").iterdir():
        path.write_bytes(b"torn")
    assert run_online(tmp_path, "run", max_steps=2, seed=1).reward.calls == 2


def test_a_constant_reward_moves_nothing(tmp_path: Path) -> None:
    class Flat(Lowest):
        def score(self, latents: Any, prompts: Any) -> Any:
            return torch.ones(len(latents))

    stage = run_online(tmp_path, "run", reward=Flat(), decay=0.0)
    start = online().model
    wake(start, 0.1)
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), stage.model.parameters(), strict=True))
    assert float(stage.trainer.callback_metrics["train/flat_prompts"]) == 1.0


def test_the_reward_rises(tmp_path: Path) -> None:
    more = {"per_prompt": 4, "data": {"batch_size": 16, "batches_per_epoch": 2}, "max_steps": 30, "rate": 3e-3}
    run_online(tmp_path, "run", loss=AWMLoss(weight="t", k_old=0.1), **more)
    rows = read_jsonl(tmp_path / "run/rollouts/rollouts.jsonl")
    mean = [sum(row["reward"] for row in rows if row["epoch"] == e) / 16 for e in range(15)]
    assert sum(mean[-4:]) / 4 > sum(mean[:4]) / 4 + 0.2, mean


def test_two_processes_draw_and_train_what_one_does(tmp_path: Path) -> None:
    """Six captions, shared whole: the same rollouts, rewards and advantages, and the same weights."""
    make_data(tmp_path)
    run_online(tmp_path, "one", limit_val_batches=0, data={"batch_size": 12}, per_prompt=2, times=2)
    # forked: no second import; the files are what the processes leave
    strategy = DDPStrategy(process_group_backend="gloo", start_method="fork", find_unused_parameters=True)
    more = {"devices": 2, "strategy": strategy, "limit_val_batches": 0, "data": {"batch_size": 6}}
    run_online(tmp_path, "two", per_prompt=2, times=2, **more)
    one, two = (read_jsonl(tmp_path / run / "rollouts/rollouts.jsonl") for run in ("one", "two"))
    assert len(one) == 4 * 6 * 2
    for a, b in zip(one, two, strict=True):
        assert (a["epoch"], a["id"], a["k"], a["seed"]) == (b["epoch"], b["id"], b["k"], b["seed"])
        assert a["reward"] == pytest.approx(b["reward"], abs=1e-4)
    assert [row["drawn"] for row in one[:12]] == [row["drawn"] for row in two[:12]]
    start = dict(online().model.named_parameters())
    a, b = (load_file(tmp_path / run / "bundle/weights.safetensors") for run in ("one", "two"))
    moved = max(float((a[name] - start[name]).abs().max()) for name in start)
    apart = max(float((a[name] - b[name]).abs().max()) for name in start)
    assert apart < 1e-2 * moved, (apart, moved)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"per_prompt": 1}, "per_prompt is 1"), ({"t_min": 1.0}, "t_min is 1.0"), ({"old_hold": 1.0}, "old_hold 1.0"),
        ({"replay": -1.0}, "replay -1.0"), ({"per_prompt": 3}, "no multiple of model.per_prompt 3 x model.times 2"),
        ({"data": {"batch_size": 400}}, "200 captions an epoch, but the training store has 24"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_says_so(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        run_online(tmp_path, "run", **settings)


def test_a_run_under_another_reward_does_not_go_on(tmp_path: Path) -> None:
    class Other(Lowest):
        identity = "other-1"

    run_online(tmp_path, "run", max_steps=4)
    with pytest.raises(ValueError, match=r"model.reward was lowest-1 and is other-1"):
        run_online(tmp_path, "run", ckpt=True, reward=Other())


PLANS = {"debug": 2, "tiny": 16, "laptop": 16, "small": 64, "full": 96}


@pytest.mark.parametrize(("scale", "captions"), PLANS.items())
def test_the_plan_of_every_scale_holds_whole_captions(scale: str, captions: int) -> None:
    configs = Path(__file__).resolve().parents[1] / "configs"
    plan = read_yaml(configs / "scales" / f"{scale}.yaml")["plan"]["online"]
    stage = read_yaml(configs / "stages/online.yaml")["model"]["init_args"]
    assert plan["batch"] * plan["epoch"] == captions * stage["per_prompt"] * stage["times"]
    assert plan["epoch"] % plan["accumulate"] == 0 == plan["updates"] * plan["accumulate"] % plan["epoch"]
