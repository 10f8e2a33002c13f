"""Rewards: invariances of the descriptors, pairs of known order, training, and the shipped judges."""

from __future__ import annotations

import math

import pytest
import torch

from fluxlight.encoders.base import TextAudioModel
from fluxlight.rewards import EmbeddedReward, RewardA, RewardB, SignalDescriptors
from fluxlight.rewards.descriptors import FRONT_A, FRONT_B
from fluxlight.rewards.features import CLEAN, Items
from fluxlight.rewards.known_order import known_order
from fluxlight.rewards.pairs import PairSampler, RewardPairs, _Batches, _Keys
from fluxlight.rewards.ranker import EmbeddedRewardTraining
from fluxlight.weights.frozen import shipped

RATE = 44_100


def tones(seconds: float = 4.0, cents: float = 0.0) -> torch.Tensor:
    """Plucked major triads on a beat of 0.5 s, ``(1, N)``."""
    t = torch.arange(int(seconds * RATE)) / RATE
    beat = t % 0.5
    notes = sum(
        torch.sin(2 * math.pi * 440 * 2 ** ((note + cents / 100 - 69) / 12) * k * t) / k
        for note in (48, 60, 64, 67)
        for k in (1, 2, 3)
    )
    return (0.1 * notes * (-6 * beat).exp()).unsqueeze(0)


def distance(descriptors: SignalDescriptors, x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    change = (descriptors.raw(x, RATE) - descriptors.raw(y, RATE)).squeeze(0).abs()
    return dict(zip(descriptors.names, change.tolist(), strict=True))


@pytest.mark.parametrize("front", [FRONT_A, FRONT_B])
def test_descriptors_ignore_level_and_hear_damage(front):
    descriptors = SignalDescriptors(front)
    assert len(set(descriptors.names)) == descriptors.dim == len(descriptors.mean)
    clean = tones()
    assert max(distance(descriptors, clean, 0.1 * clean).values()) < 0.02
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(3))
    noisy = distance(descriptors, clean, clean + 0.03 * noise)
    assert noisy["quiet_band_7"] > 20 and noisy["flatness_mid_1"] > 5
    clipped = distance(descriptors, clean, clean.clamp(-0.1, 0.1))
    assert clipped["top_share_0"] > 1.0 and clipped["crest"] > 3.0
    # a quarter tone: the mean cent vector turns by half a circle
    detuned = distance(descriptors, clean, tones(cents=50))
    assert max(value for name, value in detuned.items() if name.startswith("tuning_")) > 0.5
    assert detuned["crest"] < 1.0


def test_descriptors_are_finite_for_silence_and_short_audio_and_do_not_depend_on_the_batch():
    descriptors = SignalDescriptors()
    batch = torch.cat([tones(2.0), torch.zeros(1, 2 * RATE), 1e-7 * torch.ones(1, 2 * RATE)])
    together = descriptors(batch, RATE)
    assert together.isfinite().all() and torch.equal(together[1], together[2])
    assert torch.allclose(together[:1], descriptors(batch[:1], RATE), atol=1e-3)
    assert descriptors(tones(1.0), RATE).isfinite().all()
    assert descriptors(torch.zeros(1, 24_000), 24_000).isfinite().all()
    with pytest.raises(ValueError, match="NaN"):
        descriptors(torch.full((1, RATE), math.nan), RATE)
    with pytest.raises(ValueError, match="at least 1 s"):
        descriptors(torch.zeros(1, 1000), RATE)
    with pytest.raises(ValueError, match="mono"):
        descriptors(torch.zeros(1, 2, RATE), RATE)


def test_only_the_centre_ten_seconds_count():
    descriptors = SignalDescriptors()
    middle = tones(10.0)
    long = torch.cat([torch.ones(1, RATE), middle, -torch.ones(1, RATE)], dim=1)
    assert torch.equal(descriptors(long, RATE), descriptors(middle, RATE))


class FakeClap(TextAudioModel):
    """Hash-like embeddings: enough for the wiring of a reward."""

    name, identity = "clap-fake", "clap-fake-v1-00000000"

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def embed_text(self, texts):
        rows = [torch.randn(128, generator=torch.Generator().manual_seed(len(text))) for text in texts]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)

    def embed_audio(self, audio, sample_rate):
        level = audio.abs().mean(dim=1, keepdim=True)
        return torch.nn.functional.normalize(1 + level * torch.arange(128.0), dim=-1)


def world(clips: int, dim: int, seed: int) -> Items:
    """Clips whose first descriptor falls with the level of their fault and whose caption is near their audio."""
    generator = torch.Generator().manual_seed(seed)

    def unit(*shape: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)

    rows = [(clip, kind, level) for clip in range(clips) for kind, level in
            [(CLEAN, 0), *((k, level) for k in range(7) for level in (1, 2, 4))]]
    clip, kind, level = torch.tensor(rows).T
    topic = unit(clips, 128)
    second = torch.randn(len(rows), dim, generator=generator)
    second[:, :10] -= 1.5 * level[:, None]
    noise = 0.3 * unit(len(rows), 128)
    text = torch.nn.functional.normalize(topic[:, None] + 0.3 * unit(clips, 2, 128), dim=-1)
    return Items(torch.nn.functional.normalize(topic[clip] + noise, dim=-1), second, clip, kind, level, text)


def test_pairs_tell_the_truth_and_leave_out_what_is_held_out():
    items = world(6, 4, 0)
    sampler = PairSampler(items, held_out=["clipped"], mildest=2)
    pair, owner, wording, target, question = sampler.draw(4000, torch.Generator().manual_seed(0))
    assert not (items.kind[pair] == 4).any() and not (items.level[pair] == 1).any()
    worth = -items.level[pair].double() - 2.0 * (owner != items.clip[pair])
    assert torch.allclose(target.double(), torch.sigmoid(worth[:, 0] - worth[:, 1]), atol=1e-6)
    names = [sampler.names[i] for i in question.tolist()]
    assert set(names) == set(sampler.names)
    for name, (i, j), t, w in zip(names, pair.tolist(), target.tolist(), owner.tolist(), strict=True):
        assert (t == 0.5) == (name == "tie") or name == "level_across"
        if name in ("damage", "level", "caption", "tie"):
            assert items.clip[i] == items.clip[j]
        if name in ("level", "level_across"):
            assert items.kind[i] == items.kind[j] != CLEAN
        if name.startswith("caption"):
            assert (w[0] != items.clip[i]) != (w[1] != items.clip[j])
    assert (target > 0.5).float().mean().item() == pytest.approx((target < 0.5).float().mean().item(), abs=0.05)
    again = sampler.draw(4000, torch.Generator().manual_seed(0))
    assert torch.equal(again[0], pair) and torch.equal(again[3], target)
    with pytest.raises(ValueError, match="no fault"):
        PairSampler(items, held_out=["boring"])


class World(RewardPairs):
    """The pairs of ``world`` in place of the rendered corpus."""

    def prepare(self, reward: EmbeddedReward) -> None:
        dim = reward.descriptors.dim
        self.train_items, self.val_items, self.calibration_items = (world(n, dim, n) for n in (40, 30, 20))
        reward.descriptors.fit(self.train_items.second)
        self._reward = reward


def trained(folder, updates: int = 30):
    import lightning as L

    torch.manual_seed(0)
    reward = RewardA(clap=FakeClap(), weights=None)
    data = World("judge_a", "a", held_out=["clipped"], mildest=2, batch_size=64, updates=updates, jitter=0.1)
    module = EmbeddedRewardTraining(reward, lambda p: torch.optim.AdamW(p, lr=2e-3), warmup=5)
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
                        num_sanity_val_steps=0)
    trainer.fit(module, datamodule=data)
    return reward, data, trainer


def test_training_learns_the_order_calibrates_and_ships_itself(tmp_path):
    reward, data, trainer = trained(tmp_path)
    order = known_order(reward, data.val_items)
    assert all(row["rest"][0] > 0.9 for row in order["damage"].values())
    assert order["damage"]["noisy"]["rest"][1] == 60 and order["level"]["noisy"][1] == 90
    assert float(trainer.callback_metrics["val/accuracy"]) > 0.75
    # the file is the trained reward
    path = tmp_path / "reward_a.safetensors"
    assert path.stat().st_size < 2.5 * 2**20
    again = RewardA(clap=FakeClap(), weights=path)
    assert again.identity == reward.identity and again.identity.startswith("reward-a-v1-")
    audio = torch.cat([tones(), torch.zeros_like(tones())])
    prompts = ["a calm piano", ""]
    one, two = again.score(audio, RATE, prompts), reward.score(audio, RATE, prompts)
    assert torch.allclose(one, two, atol=2e-2) and one.isfinite().all()
    assert torch.allclose(one, again.score_embeddings(*again.embed(audio, RATE), again.embed_prompts(prompts)))
    # mean 0.5 and sd 1.2 on the calibration clips (fp16 weights move them a little)
    items = data.calibration_items
    second = again.descriptors.standardise(items.second)
    score = again.score_embeddings(items.clap, second, items.text[items.clip, 0])
    assert score.mean().item() == pytest.approx(0.5, abs=0.02) and score.std().item() == pytest.approx(1.2, abs=0.02)
    with pytest.raises(ValueError, match="not 'reward-b'"):
        RewardB(weights=path)
    other = FakeClap()
    other.identity = "clap-fake-v2-ffffffff"
    with pytest.raises(ValueError, match="was trained on"):
        RewardA(clap=other, weights=path)
    with pytest.raises(ValueError, match="one prompt per clip"):
        again.score(audio, RATE, ["only one"])
    with pytest.raises(FileNotFoundError, match="reward_a"):
        RewardA(weights=tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a readable"):
        RewardA(weights=tmp_path / "cut.safetensors")


def test_batches_are_a_function_of_seed_and_number():
    reward = RewardA(clap=FakeClap(), weights=None)
    sampler = PairSampler(world(5, reward.descriptors.dim, 1))
    one, two = (_Batches(reward, sampler, 16, 0.3, seed=4)[7] for _ in range(2))
    assert torch.equal(one.a, two.a) and torch.equal(one.target, two.target)
    assert not torch.equal(one.a, _Batches(reward, sampler, 16, 0.3, seed=4)[8].a)
    keys = _Keys(3)
    keys.set_epoch(2)
    assert list(keys) == [6, 7, 8]


@pytest.mark.parametrize(("kind", "file"), [(RewardA, "reward_a.safetensors"), (RewardB, "reward_b.safetensors")])
def test_shipped_rewards_know_good_from_bad(kind, file):
    assert shipped(file).stat().st_size <= 2.5 * 2**20
    reward = kind()
    rows = reward.facts["accuracy"]["damage"]
    assert reward.identity.startswith(f"{reward.name}-v") and set(rows) >= {"clipped", "noisy"}
    music = tones(10.0)
    noise = 0.1 * torch.randn(music.shape, generator=torch.Generator().manual_seed(5))
    prompts = ["a slow folk tune on piano"] * 3
    score = reward.score(torch.cat([music, music + noise, torch.zeros_like(music)]), RATE, prompts)
    assert score.isfinite().all() and score[0] > score[1]
    softer = 0.3 * torch.cat([music, music + noise, torch.zeros_like(music)])
    assert torch.allclose(score, reward.score(softer, RATE, prompts), atol=0.05)
    with pytest.raises(ValueError, match="NaN"):
        reward.score(music * math.nan, RATE, prompts[:1])
