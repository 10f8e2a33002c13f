"""Votes on pairs of clips become the inputs of a reward head: embedded and published encoders, stops, bad tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_published import laion_file, laion_state, mert_folder, roberta_folder

from fluxlight.cli import main
from fluxlight.encoders import ClapA, LaionClap, Mert
from fluxlight.rewards import TuneJury, TuneJuryReward, votes
from fluxlight.rewards.preferences import PreferenceFiles, Preferences
from fluxlight.rewards.tunejury import RELEASED

HEAD = "a,b,winner,prompt,system_a,system_b\n"
ROWS = "0.wav,1.wav,a,a calm piano,x,y\n1.wav,2.wav,tie,,y,x\n2.wav,0.wav,b,loud drums,x,x\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for k in range(3):
        soundfile.write(tmp_path / f"{k}.wav", 0.1 * draw.standard_normal((22050 * (k + 1), 1 + k % 2)), 22050)
    path = tmp_path / "votes.csv"
    path.write_text(HEAD + ROWS)
    return path


def test_the_verb_writes_what_training_reads(table: Path, capsys: pytest.CaptureFixture[str]):
    out = table.with_name("train.safetensors")
    assert main(["votes", "--table", str(table), "--out", str(out)], standalone=False) == 0
    said = capsys.readouterr().out
    clap = ClapA()
    assert f"3 votes, 1 of them ties -> {out}" in said
    assert f"[[clap_audio, {clap.dim}], [clap_text, {clap.dim}]]" in said
    made = Preferences.load(out)
    assert made.pairs.target.tolist() == [1.0, 0.5, 0.0]
    assert (made.system_a, made.system_b) == (["x", "y", "x"], ["y", "x", "x"])
    samples, rate = soundfile.read(table.with_name("1.wav"), dtype="float32")
    heard = clap.embed_audio(torch.from_numpy(samples.mean(axis=1)), rate)[0]
    text = clap.embed_text(["a calm piano"])[0]
    assert torch.allclose(made.pairs.b[0], torch.cat([heard, text]), atol=1e-6)
    # a prompt that says nothing is zeros, on the same clip
    assert torch.equal(made.pairs.a[1], torch.cat([made.pairs.b[0, : clap.dim], torch.zeros(clap.dim)]))
    assert len(PreferenceFiles(str(out), str(out)).train.pairs.target) == 3
    assert not out.with_name(out.name + ".parts").exists()


def test_a_published_head_scores_the_clips_as_it_scores_the_inputs(table: Path, tmp_path: Path):
    state, words = laion_file(tmp_path / "clap.pt", laion_state()), roberta_folder(tmp_path / "words", 300)
    clap = LaionClap(path=str(state), tokenizer=str(words), backend="transformers")
    mert = Mert(str(mert_folder(tmp_path / "mert", hidden=1024, num_hidden_layers=1)))
    head = TuneJury(RELEASED["net", 2048], (16, 8)).eval()
    torch.save(head.export(), tmp_path / "head.pt")
    reward = TuneJuryReward(str(tmp_path / "head.pt"), clap=clap, mert=mert)
    made = votes.prepare(table, tmp_path / "pairs.safetensors", clap, mert)
    for k, vote in enumerate(votes.read_votes(table)):
        samples, rate = soundfile.read(vote.a, dtype="float32", always_2d=True)
        score = reward.score(torch.from_numpy(samples.mean(axis=1))[None], rate, [vote.prompt])
        assert head(made.pairs.a[k : k + 1]).item() == pytest.approx(score.item(), abs=1e-5)


def test_what_was_heard_before_a_stop_is_not_heard_again(table: Path, monkeypatch: pytest.MonkeyPatch):
    clap, out = ClapA(), table.with_name("train.safetensors")
    whole = votes.prepare(table, table.with_name("whole.safetensors"), clap)
    monkeypatch.setattr(votes, "CHUNK", 1)
    heard: list[str] = []
    embed = votes._embed

    def stopped(path: Path, encoders: object) -> torch.Tensor:
        if len(heard) == 2:
            raise KeyboardInterrupt
        heard.append(path.name)
        return embed(path, encoders)

    with monkeypatch.context() as patch:
        patch.setattr(votes, "_embed", stopped)
        with pytest.raises(KeyboardInterrupt):
            votes.prepare(table, out, clap)
    assert heard == ["0.wav", "1.wav"] and not out.exists()
    monkeypatch.setattr(votes, "_embed", lambda path, encoders: heard.append(path.name) or embed(path, encoders))
    made = votes.prepare(table, out, clap)
    assert heard == ["0.wav", "1.wav", "2.wav"]
    assert torch.equal(made.pairs.a, whole.pairs.a) and torch.equal(made.pairs.b, whole.pairs.b)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a,b\n0.wav,1.wav\n", "winner is missing"),
        (HEAD + "0.wav,1.wav,left,,,\n", "line 2: winner is 'left'"),
        (HEAD, "holds no votes"),
        (HEAD + "0.wav,9.wav,a,,,\n", "1 of 2 clips are not there"),
        (HEAD + "0.wav,1.wav,a,,x,y\n1.wav,2.wav,b,,,\n", "name both in every line"),
        (HEAD + "0.wav,silent.wav,a,,,\n", "silent.wav is silent"),
        (HEAD + "0.wav,votes.csv,a,,,\n", "cannot be read"),
    ],
)
def test_bad_votes_are_one_line(table: Path, text: str, word: str, capsys: pytest.CaptureFixture[str]):
    soundfile.write(table.with_name("silent.wav"), np.zeros(4410), 44100)
    table.write_text(text)
    out = table.with_name("train.safetensors")
    assert main(["votes", "--table", str(table), "--out", str(out)]) == 2
    said = capsys.readouterr().err.strip()
    assert word in said.splitlines()[-1] and not out.exists()
