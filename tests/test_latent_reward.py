"""The latent reward: what it learns of a planted one, what its bag is worth, and rewards by listening beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from small_world import C, D, L, SmallCodec, SmallReward, make_store, make_trainer

from fluxlight.data import RewardedData
from fluxlight.data.store import LatentStore
from fluxlight.files import read_json, write_jsonl
from fluxlight.postprocess import LockedLoudness
from fluxlight.rewards import DecodedReward, LatentReward
from fluxlight.rewards.distill import LatentRewardTraining, agreement, pearson
from fluxlight.types import Clip


def planted(latents: np.ndarray, text_c: np.ndarray) -> np.ndarray:
    """A reward that hears the level of a channel and how another goes with the text."""
    return latents[..., 0].mean(-1) + 0.5 * latents[..., 1].std(-1) + 0.5 * latents[..., 2].mean(-1) * text_c[:, 0]


def rewarded_world(folder: Path, captions: int = 40, each: int = 4, **row: Any) -> tuple[Path, Path]:
    """A store whose scores are the planted reward, and scored candidates of its captions."""
    store = make_store(folder / "store", n=captions, std=False)
    known, rng = LatentStore(store), np.random.default_rng(1)
    np.save(store / "score.npy", planted(np.asarray(known.mean), known.text_c[known.text_row]).astype(np.float32))
    (folder / "c/latents").mkdir(parents=True)
    rows = []
    for i, clip in enumerate(known.rows):
        for k in range(each):
            latent = (rng.normal(size=(L, D)) * 2 + 1 + rng.normal(size=D)).astype(np.float32)
            reward = float(planted(latent[None], known.text_c[known.text_row[i]][None])[0])
            np.save(folder / "c/latents" / f"{i}-{k}.npy", latent)
            said = {"id": clip["id"], "prompt": clip["caption"], "seed": k, "checkpoint": "x", "error": "",
                    "latent": f"latents/{i}-{k}.npy", "reward": reward, "judges": {"reward": None}}  # fmt: skip
            rows.append({**said, **row})
    rows.append({**rows[-1], "seed": 99, "reward": None, "error": "silent"})
    write_jsonl(folder / "c/scores.jsonl", rows)
    return store, folder / "c"


def trained(folder: Path, updates: int = 200) -> Path:
    """The run folder of a latent reward of `rewarded_world`."""
    store, candidates = rewarded_world(folder)
    data = RewardedData(str(store), [str(candidates)], batch_size=32, batches_per_epoch=updates, heads=3)
    trainer = make_trainer(folder / "latent", max_steps=updates)
    trainer.fit(LatentRewardTraining(width=32, heads=3, warmup=10), datamodule=data)
    return folder / "latent"


def test_it_learns_a_reward_and_says_how_well(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    facts = read_json(folder / "latent_reward.json")
    assert facts["rows"] == {"store": 40, "candidates": 160} and facts["held_out_captions"] == 6
    assert facts["correlation"] > 0.7 and facts["correlation_within_sampled"] > 0.7 and facts["best_of"] > 0.6
    reward, store = LatentReward(str(folder), caution=0.0), LatentStore(tmp_path / "store")
    assert reward.identity.startswith("latent-reward-v1-") and reward.facts["correlation"] == facts["correlation"]
    prompts, draw = store.prompts([0, 1, 2], [0, 0, 0]), torch.Generator().manual_seed(2)
    latents = torch.randn(3, L, D, generator=draw) * 2 + 1
    mean, careful = reward.score(latents, prompts), LatentReward(str(folder), caution=2.0)
    heads = reward.net.rewards(latents, prompts.text_c)
    assert torch.allclose(mean, heads.mean(0)) and careful.identity != reward.identity
    assert torch.allclose(careful.score(latents, prompts), heads.mean(0) - 2 * heads.std(0, correction=0), atol=1e-5)
    assert bool(heads.std(0).min() > 0), "heads of different bootstraps differ"
    latents[1, 0, 0] = torch.nan
    assert reward.score(latents, prompts).isnan().tolist() == [False, True, False]
    reward.check(store.meta["identities"])
    with pytest.raises(ValueError, match="trained on codec small-codec, the store has other"):
        reward.check({**store.meta["identities"], "codec": "other"})


def test_training_goes_on_bit_by_bit(tmp_path: Path) -> None:
    from callbacks import LastCheckpoint

    store, candidates = rewarded_world(tmp_path, captions=12)

    def fit(run: str, updates: int, ckpt: str | None = None) -> str:
        data = RewardedData(str(store), [str(candidates)], batch_size=8, batches_per_epoch=3, heads=2)
        trainer = make_trainer(tmp_path / run, [LastCheckpoint()], max_epochs=updates // 3, max_steps=-1)
        stage = LatentRewardTraining(width=8, heads=2, optimizer=lambda p: torch.optim.SGD(p, lr=0.01), warmup=0)
        # the schedule knows the end of the run
        stage.configure_optimizers = lambda: stage.optimizer(stage.net.parameters())  # type: ignore[method-assign]
        trainer.fit(stage, datamodule=data, ckpt_path=ckpt)
        return LatentReward(str(tmp_path / run)).identity

    whole = fit("whole", 6)
    fit("cut", 3)
    torch.manual_seed(5)
    assert fit("cut", 6, str(tmp_path / "cut/last.ckpt")) == whole


def test_held_out_captions_are_held_out_with_all_their_clips(tmp_path: Path) -> None:
    store, candidates = rewarded_world(tmp_path, captions=12)
    data = RewardedData(str(store), [str(candidates)], share=0.5)
    caption = data.known.caption
    assert not set(caption[data.train]) & set(caption[data.val]) and len(data.val) == 2 * (1 + 4)
    # one bootstrap a head: clips of a caption have one weight
    weight = data.known.weight
    assert all(np.ptp(weight[caption == c], axis=0).max() == 0 for c in np.unique(caption)) and weight.std() > 0
    batch = data.known.batch([3, 12 + 5])
    assert batch.sampled.tolist() == [False, True] and batch.caption[1] == caption[17]
    assert np.allclose(batch.latents[0], data.known.store.mean[3]) and batch.std is None


def test_rows_of_another_reward_are_refused(tmp_path: Path) -> None:
    store, candidates = rewarded_world(tmp_path, captions=12)
    meta = json.loads((store / "meta.json").read_text())
    meta["identities"]["reward"] = "reward-a-v1"
    (store / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match="was scored by None, the store by reward-a-v1"):
        RewardedData(str(store), [str(candidates)])
    with pytest.raises(ValueError, match="has no scored candidate"):
        RewardedData(str(store), [str(tmp_path)])
    with pytest.raises(FileNotFoundError, match=r"no latent reward at .*configs/rewards/latent.yaml"):
        LatentReward(str(tmp_path))


def test_agreement_has_its_closed_forms() -> None:
    caption = np.repeat(np.arange(50), 4)
    rng = np.random.default_rng(0)
    between, within = np.repeat(rng.normal(size=50), 4) * 5, rng.normal(size=200)
    goal = between + within
    blind = agreement(np.stack([between, between]) + 1e-3 * rng.normal(size=(2, 200)), goal, caption)
    assert blind["correlation"] > 0.9 and abs(blind["correlation_within"]) < 0.25 and blind["best_of"] < 0.4
    sharp = agreement(np.stack([goal, goal + 1]), goal, caption)
    assert sharp["correlation_within"] == pytest.approx(1) and sharp["best_of"] == pytest.approx(1)
    assert pearson(np.ones(3), np.arange(3.0)) == 0.0
    assert "correlation_within" not in agreement(goal[None], goal, np.arange(200))


def test_a_decoded_reward_hears_one_level_and_survives_a_bad_clip(tmp_path: Path) -> None:
    store = LatentStore(make_store(tmp_path / "store"))
    prompts, codec = store.prompts([0, 1, 2], [0, 0, 0]), SmallCodec()
    latents = torch.randn(3, L, D, generator=torch.Generator().manual_seed(0))
    reward = DecodedReward(codec, SmallReward())
    waves = codec.decode(latents)
    level = LockedLoudness(-23.0)
    heard = [level(Clip("x", wave, codec.sample_rate)).audio.std() for wave in waves]
    assert torch.allclose(reward.score(latents, prompts), torch.stack(heard), rtol=1e-5)
    latents[1] = torch.inf
    assert reward.score(latents, prompts).isnan().tolist() == [False, True, False]
    reward.check(store.meta["identities"])
    with pytest.raises(ValueError, match="decodes with small-codec, the store was encoded by other"):
        reward.check({"codec": "other"})
    assert prompts.text_c.shape[1] == C


def test_the_recipes_parse(capsys: pytest.CaptureFixture[str]) -> None:
    """Training a latent reward, and an online stage that listens in its place."""
    from fluxlight.cli import main

    configs = Path(__file__).resolve().parents[1] / "configs"
    assert main(["fit", "--config", str(configs / "rewards/latent.yaml"), "--print_config"]) == 0
    latent = yaml.safe_load(capsys.readouterr().out)
    assert latent["data"]["init_args"]["heads"] == latent["model"]["init_args"]["heads"] == 5
    names = ("stages/online", "rewards/decoded")
    files = [word for name in names for word in ("--config", str(configs / f"{name}.yaml"))]
    assert main(["fit", *files, "--print_config"]) == 0
    reward = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["reward"]
    assert reward["class_path"].endswith("DecodedReward") and reward["init_args"]["lufs"] == -23.0
    assert reward["init_args"]["reward"]["class_path"].endswith("RewardA")
