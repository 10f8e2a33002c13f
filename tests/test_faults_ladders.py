"""Ladders and error rates on clips with faults: one hole moves no value, every fault is listed, and can be left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_evaluation import FakeClap, FakeReward, render

from fluxlight.cli import main
from fluxlight.evaluation.judging import Judges
from fluxlight.files import write_json

RATE, IDS = 16000, [f"p{k}" for k in range(6)]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path / "cache"))
    judges = Judges({"clap_b": FakeClap()}, {"reward_b": FakeReward()})
    monkeypatch.setattr("fluxlight.evaluation.judges.load_judges", lambda name: judges)
    write_json(tmp_path / "prompts.json", [{"id": i, "prompt": f"tune {i}"} for i in IDS])
    for k, name in enumerate(("good", "hole", "other")):
        render(tmp_path / name, 1 if name == "hole" else k + 1, 0.1, IDS)
    render(tmp_path / "ref", 7, 0.03, [f"r{k}" for k in range(8)])
    for name in ("good", "hole"):
        wave, _ = soundfile.read(tmp_path / name / "p0.wav")
        wave[5000] = 0 if name == "good" else np.nan
        soundfile.write(tmp_path / name / "p0.wav", wave, RATE, subtype="FLOAT")
    return tmp_path


def ladders(folder: Path, audio: str, *flags: str) -> dict:
    out = folder / f"out_{audio}{len(flags)}"
    args = ["ladders", "--audio", str(folder / audio), "--prompts", str(folder / "prompts.json"), "--clips", "6"]
    args += ["--reference", str(folder / "ref"), "--steps", "1", "--loudness", "locked", "--resamples", "9"]
    assert main([*args, "--ladders", "white_noise", "low_pass", "--extra", "--out", str(out), *flags]) == 0
    return json.loads((out / "ladders.json").read_text())


def test_one_hole_moves_no_rung_and_is_listed(folders: Path, capsys):
    good, hole = ladders(folders, "good"), ladders(folders, "hole")
    for name, ladder in good["tables"]["locked"].items():
        for one, other in zip(ladder["rows"], hole["tables"]["locked"][name]["rows"], strict=True):
            assert other["values"] == pytest.approx(one["values"], abs=1e-5)
    assert good["frame"]["faults"]["clips"] == {}
    assert hole["frame"]["faults"]["clips"] == {"p0": ["not finite (1 samples)"]}
    said = capsys.readouterr().out
    assert said.count("- clips: p0 not finite (1 samples)") == 1 and "--leave-out-faulty leaves them out" in said


def test_faulty_clips_can_be_left_out_of_clips_and_reference(folders: Path, capsys):
    soundfile.write(folders / "ref/r3.wav", np.zeros(RATE * 2), RATE)
    found = ladders(folders, "hole", "--leave-out-faulty")
    assert found["frame"]["n"] == 5 and found["frame"]["left_out"] == ["p0"]
    assert found["frame"]["reference"].startswith("reference-7-")
    assert "Left out: p0." in capsys.readouterr().out
    kept = ladders(folders, "hole")
    assert kept["frame"]["n"] == 6 and kept["frame"]["faults"]["the reference"] == {"r3.wav": ["silent"]}


@pytest.mark.parametrize("leave_out", [False, True])
def test_error_rates_list_faults_and_leave_a_prompt_out_of_every_seed(folders: Path, capsys, leave_out: bool):
    out, silent = folders / "rates", folders / "other/p4.wav"
    soundfile.write(silent, np.zeros(RATE * 2), RATE)
    args = ["error-rates", "--model", str(folders / "hole"), str(folders / "other")]
    args += ["--prompts", str(folders / "prompts.json"), "--data", str(folders / "good")]
    args += ["--data-prompts", str(folders / "prompts.json"), "--reference", str(folders / "ref"), "--n", "3"]
    args += ["--trials", "2", "--power-trials", "1", "--steps", "1", "--damage", "low_pass", "--resamples", "9"]
    assert main([*args, "--out", str(out), *(["--leave-out-faulty"] if leave_out else [])]) == 0
    frame = json.loads((out / "error_rates.json").read_text())["frame"]
    found = {Path(row).name: faults for row, faults in frame["faults"].items() if faults}
    assert found == {"hole": {"p0": ["not finite (1 samples)"]}, "other": {"p4": ["silent"]}}
    assert frame["left_out"] == (["p0", "p4"] if leave_out else [])
    assert "p4 silent" in (out / "error_rates.md").read_text()
