"""Mining: candidates survive kills, failures are kept, selection is a pure function that refuses the slice."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from fluxlight.cli.select import main as select_main
from fluxlight.encoders.base import TextAudioModel
from fluxlight.files import read_jsonl
from fluxlight.mining import load_audio, load_latents, open_folder, read_candidates, write_batch, write_failures
from fluxlight.mining.experts import select_experts
from fluxlight.mining.pairs import BUILDERS, select_pairs
from fluxlight.mining.score import score_folder
from fluxlight.mining.select import read_ids
from fluxlight.rewards.base import Reward

RATE = 8000


class LoudReward(Reward):
    """Reward = RMS of the clip; refuses clips below 0.05, so that failures can be made."""

    identity = "loud-v1"

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def score(self, audio, sample_rate, prompts):
        self.calls += 1
        rms = audio.square().mean(dim=1).sqrt()
        if bool((rms < 0.05).any()):
            raise ValueError("too quiet\nto judge")
        return rms


class FlatClap(TextAudioModel):
    """CLAP whose audio side looks at the sign of the mean and whose text side is constant."""

    name = "flat"

    def embed_text(self, texts):
        return torch.tensor([[1.0, 0.0]]).expand(len(texts), 2)

    def embed_audio(self, audio, sample_rate):
        angle = audio.mean(dim=1).clamp(-1, 1)
        return torch.stack([angle.cos(), angle.sin()], dim=1)


def write_wav(path: Path, level: float) -> None:
    import soundfile

    soundfile.write(path, np.full(RATE, level), RATE)


def fill(folder: Path, levels: list[float], ids: list[str] | None = None, seed: int = 0) -> list:
    count = len(levels)
    ids = ids or [f"train-{i:06d}" for i in range(count)]
    audio = torch.tensor(levels)[:, None].expand(count, RATE).clone()
    latents = torch.arange(count * 6, dtype=torch.float32).view(count, 3, 2)
    return write_batch(folder, ids, [f"song of {id}" for id in ids], [seed] * count, "abcdef0123", audio, latents, RATE,
                       {"score": 2.0}, open_folder(folder))


def test_a_batch_comes_back_as_written_and_is_not_written_twice(tmp_path: Path):
    fill(tmp_path, [0.1, 0.2])
    fill(tmp_path, [0.3, 0.4])  # same keys: nothing happens
    rows = read_candidates(tmp_path)
    assert [row.id for row in rows] == ["train-000000", "train-000001"] and rows[0].extra == {"score": 2.0}
    audio, rate = load_audio(tmp_path, rows[1])
    assert rate == RATE and audio == pytest.approx(0.2, abs=1e-4)
    assert load_latents(tmp_path, rows).tolist() == torch.arange(12.0).view(2, 3, 2).tolist()
    fill(tmp_path, [0.5, 0.5], seed=1)  # another seed is another candidate
    assert len(read_candidates(tmp_path)) == 4


def test_a_line_cut_short_by_a_kill_is_mended(tmp_path: Path):
    fill(tmp_path, [0.1, 0.2])
    path = tmp_path / "candidates.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert len(open_folder(tmp_path)) == 1
    fill(tmp_path, [0.1, 0.2])
    assert path.read_bytes() == whole


def test_broken_clips_and_batches_are_kept_as_failures_and_retried(tmp_path: Path):
    fill(tmp_path, [0.1, float("nan")])
    write_failures(tmp_path, ["train-000009"], ["p"], [0], "abcdef0123", "out of\nmemory")
    rows = {row.id: row for row in read_candidates(tmp_path)}
    assert "not finite" in rows["train-000001"].error and rows["train-000009"].error == "out of memory"
    assert len(open_folder(tmp_path)) == 1
    fill(tmp_path, [0.1, 0.3])
    assert not {row.id: row for row in read_candidates(tmp_path)}["train-000001"].error


def test_missing_folder_and_foreign_rows_are_clear_errors(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="fluxlight predict"):
        read_candidates(tmp_path)
    (tmp_path / "candidates.jsonl").write_text('{"id": "a"}\n{"id": "b"}\n')
    with pytest.raises(ValueError, match="line 1"):
        read_candidates(tmp_path)


def test_scores_keep_failures_and_resume_without_rework(tmp_path: Path):
    fill(tmp_path, [0.5, 0.01, 0.3, 0.2, 0.1])  # the second is refused by the reward
    (tmp_path / read_candidates(tmp_path)[3].audio).write_bytes(b"not a wav")
    reward = LoudReward()
    rows = {row["id"]: row for row in score_folder(tmp_path, reward, FlatClap(), batch_size=2, lufs=None)}
    assert rows["train-000000"]["reward"] == pytest.approx(0.5, abs=1e-3)
    assert rows["train-000002"]["judges"] == {"reward": "loud-v1", "clap": "flat-v1-untrained", "lufs": None}
    assert rows["train-000001"]["error"] == "too quiet to judge" and rows["train-000001"]["reward"] is None
    assert rows["train-000003"]["error"] and len(rows) == 5
    # a second call has nothing to do; after a kill in the middle of the last row only its batch is judged again
    path, whole, again = tmp_path / "scores.jsonl", (tmp_path / "scores.jsonl").read_bytes(), LoudReward()
    score_folder(tmp_path, again, FlatClap(), batch_size=2, lufs=None)
    assert again.calls == 0 and path.read_bytes() == whole
    path.write_bytes(whole[:-10])
    score_folder(tmp_path, again, FlatClap(), batch_size=2, lufs=None)
    assert again.calls == 1 and path.read_bytes() == whole
    # asked for, failures are tried again and the newest row counts
    write_wav(tmp_path / read_candidates(tmp_path)[3].audio, 0.2)
    rows = score_folder(tmp_path, reward, FlatClap(), batch_size=2, lufs=None, retry=True)
    assert [bool(row["error"]) for row in rows] == [False, True, False, False, False]
    with pytest.raises(ValueError, match="move that file away"):
        score_folder(tmp_path, reward, FlatClap(), lufs=-23.0)


def scored(n: int = 40, per: int = 4) -> list[dict]:
    draw = random.Random(3)
    return [
        {"id": f"train-{i // per:06d}", "prompt": f"p{i // per}", "seed": i % per, "checkpoint": "c",
         "audio": f"{i}.wav", "latent": f"{i}.npy", "error": "",
         "reward": draw.gauss(0.5, 1.2), "clap": draw.gauss(0.3, 0.1)}
        for i in range(n)
    ]


def test_experts_are_the_top_decile_of_the_z_blend():
    rows = scored()
    chosen = select_experts(rows)
    reward, clap = (torch.tensor([row[c] for row in rows], dtype=torch.float64) for c in ("reward", "clap"))
    z_reward, z_clap = ((x - x.mean()) / x.std(correction=0) for x in (reward, clap))
    blend = 0.5 * z_reward + 0.5 * z_clap
    best = blend.argsort(descending=True)[:4].tolist()
    assert [row["audio"] for row in chosen] == [f"{i}.wav" for i in best]
    assert [row["rank"] for row in chosen] == [1, 2, 3, 4]
    assert chosen[0]["blend"] == pytest.approx(float(blend.max()))
    # reward alone is another choice, and 10 % of 640 rows is 64
    assert select_experts(rows, 1, 0)[0]["reward"] == pytest.approx(float(reward.max()))
    assert len(select_experts(scored(640))) == 64 and len(select_experts(scored(41))) == 5


def test_selection_does_not_see_the_order_of_rows_nor_change_them():
    rows = scored()
    shuffled = random.Random(1).sample(rows, len(rows))
    copy = json.loads(json.dumps(rows))
    assert select_experts(rows) == select_experts(shuffled) and all(
        select_pairs(rows, kind()) == select_pairs(shuffled, kind()) for kind in BUILDERS.values()
    )
    assert rows == copy


def test_failed_and_unfinite_rows_never_win():
    rows = scored()
    rows[5].update(reward=99.0, clap=99.0, error="broken")
    rows[6].update(reward=float("nan"))
    rows[7].update(clap=None)
    assert not {"5.wav", "6.wav", "7.wav"} & {row["audio"] for row in select_experts(rows, top=1.0)}
    with pytest.raises(ValueError, match="none of"):
        select_experts([{**row, "error": "x"} for row in rows])


def test_pairs_are_extremes_of_one_prompt_and_never_one_clip():
    rows = scored()
    for row in rows[:4]:
        row["clap"] = 0.25  # a prompt whose candidates tie: upstream would pair a clip with itself
    rows = rows[:-3]  # and a prompt with one candidate
    extremes = BUILDERS["extremes"]
    pairs = select_pairs(rows, extremes())
    assert [pair["id"] for pair in pairs] == [f"train-{i:06d}" for i in range(1, 9)]
    for pair in pairs:
        claps = [row["clap"] for row in rows if row["id"] == pair["id"]]
        assert (pair["winner"]["clap"], pair["loser"]["clap"]) == (max(claps), min(claps))
        assert pair["winner"]["latent"] != pair["loser"]["latent"] and pair["margin"] > 0
    assert len(select_pairs(rows, extremes(margin=0.15))) < len(pairs)
    with pytest.raises(ValueError, match="several seeds"):
        select_pairs([row for row in rows if row["seed"] == 0], extremes())


def test_slice_ids_are_refused(tmp_path: Path):
    rows = scored()
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "prompts.json").write_text(json.dumps([{"id": "train-000003", "prompt": "x"}]))
    for kind in ("experts", "pairs"):
        with pytest.raises(ValueError, match="train-000003.*|evaluation slice"):
            select_main([kind, "--candidates", str(tmp_path), "--slice", str(tmp_path / "prompts.json")])
        assert not (tmp_path / f"{kind}.jsonl").exists()
    (tmp_path / "rows.jsonl").write_text('{"id": "slice-000001"}\n')
    select_main(["pairs", "--candidates", str(tmp_path), "--slice", str(tmp_path)])
    assert len(read_jsonl(tmp_path / "pairs.jsonl")) == 10
    with pytest.raises(FileNotFoundError, match="slice"):
        read_ids(tmp_path / "nothing.json")
