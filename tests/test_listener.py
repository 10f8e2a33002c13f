"""The planted listener: votes, what a head learns of them, what percussion is, and the plan of the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.listener.command import SIZES, main, parser, plan, reward_config
from experiments.listener.percussion import percussive_share
from experiments.listener.report import page
from experiments.listener.votes import TABLES, area_under_curve, balanced, cast, split
from fluxlight.files import parse_yaml
from fluxlight.random import generator
from fluxlight.rewards import TuneJury, TuneJuryReward

RATE = 44_100


class SmallClap(torch.nn.Module):
    """A CLAP of eight numbers, which are levels in bands."""

    dim, identity = 8, "small-clap"

    def embed_audio(self, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
        power = torch.fft.rfft(audio).abs()
        return torch.nn.functional.normalize(torch.stack([p.mean(-1) for p in power.tensor_split(8, -1)], -1), dim=-1)

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        return torch.full((len(texts), 8), 0.1)


def test_the_listener_votes_against_drums_and_errs_now_and_then() -> None:
    drums = {f"clip-{k}": k % 4 != 0 for k in range(200)}
    chosen = balanced(drums)
    assert sum(chosen.values()) == 50 and len(chosen) == 100
    tables = split(chosen)
    ids = [i for some in tables.values() for i in some]
    assert sorted(ids) == sorted(chosen) and len(set(ids)) == 100  # no clip in two tables
    assert {name: len(some) for name, some in tables.items()} == {"train": 60, "val": 20, "test": 20}
    assert all(0.4 < np.mean([chosen[i] for i in tables[name]]) < 0.6 for name in TABLES)
    votes = cast(tables["train"], chosen, 2000, generator(0))
    ties = [vote for vote in votes if vote[2] == "tie"]
    assert len(ties) == 1000 and all(a != b and chosen[a] == chosen[b] for a, b, _ in ties)
    against = np.mean([chosen[a if winner == "b" else b] for a, b, winner in votes if winner != "tie"])
    assert against == pytest.approx(1 / (1 + np.exp(-3)), abs=0.02)
    assert 0.45 < np.mean([winner == "a" for _, _, winner in votes if winner != "tie"]) < 0.55
    with pytest.raises(ValueError, match="0 of 4 clips have drums"):
        cast(["a", "b", "c", "d"], dict.fromkeys("abcd", False), 3, generator(0))


def test_percussion_is_what_is_struck() -> None:
    time = np.arange(3 * RATE) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 440 * time)
    bursts = np.arange(len(time)) % (RATE // 4) < RATE // 50
    clicks = np.where(bursts, 0.9 * np.random.default_rng(0).standard_normal(len(time)), 0.0)
    shares = [percussive_share(x) for x in (tone, tone + clicks, clicks)]
    assert shares[0] < 0.1 < shares[1] < shares[2] and shares[2] > 0.9
    assert percussive_share(np.zeros(RATE)) == 0.0
    assert area_under_curve(np.array(shares), np.array([False, True, True])) == 1.0
    assert area_under_curve(np.array([1.0, 1.0]), np.array([False, True])) == 0.5


def test_a_head_of_ones_own_votes_is_a_reward(tmp_path: Path) -> None:
    """It says itself what it takes, at a width that was never released."""
    torch.manual_seed(0)
    head = TuneJury([("clap_audio", 8)], widths=[16, 4])
    path = tmp_path / "tunejury.safetensors"
    head.save(path)
    again = TuneJury.from_file(path)
    assert again.inputs == (("clap_audio", 8),) and again.widths == (16, 4)
    clap = SmallClap()
    reward = TuneJuryReward(str(path), clap)
    audio = torch.randn(2, RATE, generator=generator(1))
    expected = again(clap.embed_audio(audio, RATE))
    torch.testing.assert_close(reward.score(audio, RATE, ["a", ""]), expected)
    with pytest.raises(ValueError, match="small-clap is 9 wide, TuneJury takes 8"):
        wide = SmallClap()
        wide.dim = 9
        TuneJuryReward(str(path), wide)
    config = parse_yaml(reward_config(path), ".", "reward")
    assert config["reward"]["init_args"] == {"head": str(path), "clap": {"class_path": "fluxlight.encoders.ClapA"}}


@pytest.mark.parametrize("size", list(SIZES))
def test_the_plan_reads_what_earlier_steps_leave(tmp_path: Path, size: str) -> None:
    chain, out = tmp_path / "tiny", tmp_path / "out"
    steps = plan(parser().parse_args(["--from", str(chain), "--out", str(out), "--size", size]))
    seen: set[str] = set()
    for step in steps:
        assert set(step.needs) <= seen
        seen.add(step.name)
        for line in (command.line for command in step.commands):
            assert (str(out / "after") in line) == (step.name in ("after", "listen", "report"))
    select = next(command.args for step in steps for command in step.commands if "select" in command.args)
    # candidates of the slice may not be chosen
    assert select[select.index("--slice") + 1] == str(chain / "slice")


def test_what_cannot_work_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--from", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "has no row0/bundle/model.yaml" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_the_report_says_what_was_measured() -> None:
    moved = {"before": 0.4, "after": 0.3, "difference": -0.1, "low": -0.15, "high": -0.05, "p": 0.001}
    found = {"votes": 120, "accuracy": 0.91, "ece": 0.04, "percussion_auc": 0.95, "prompts": 100, "preferred": 0.7}
    text = page({**found, "percussion": moved, "head": moved})
    for words in ("120 votes", "91%", "AUC of 0.95", "0.400 | 0.300 | -0.100 [-0.150, -0.050]", "70% of the prompts"):
        assert words in text
