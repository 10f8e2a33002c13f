"""Folders and clips as people have them, through post-processing: peaks, names, links, rates, another input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile
import torch
from small_postprocess import RATE, tone

from fluxlight.cli import main
from fluxlight.files import read_jsonl, write_jsonl


def write(path: Path, audio: np.ndarray | torch.Tensor, rate: int = RATE, subtype: str = "PCM_16") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.asarray(audio), rate, subtype=subtype)


def clicks() -> np.ndarray:
    """A faint tone with a few clicks: its loudness is far below its peak."""
    wave = np.array(tone(3.0, level=0.01))
    wave[::13230] = 0.9
    return wave


def loudness(path: Path) -> float:
    wave, rate = soundfile.read(path)
    return pyloudnorm.Meter(rate).integrated_loudness(wave)


@pytest.mark.parametrize("level", [-23.0, -10.0, -65.0])
def test_a_locked_clip_is_at_its_level_whatever_its_peaks(tmp_path: Path, capsys, level: float):
    write(tmp_path / "in/clicks.wav", clicks())
    write(tmp_path / "in/tone.wav", tone())
    args = ["postprocess", str(tmp_path / "in"), str(tmp_path / "out"), "--passes", "0", "--locked"]
    assert main([*args, "--lufs", str(level)]) == 0
    for name in ("clicks.wav", "tone.wav"):
        assert abs(loudness(tmp_path / "out" / name) - level) < 0.02
    said, rows = capsys.readouterr().out, {row["file"]: row for row in read_jsonl(tmp_path / "out/postprocess.jsonl")}
    assert rows["clicks.wav"]["format"] == "FLOAT" and "32-bit float" in said and "clicks.wav" in said
    assert "32-bit float" in rows["clicks.wav"]["notes"][-1]
    assert rows["tone.wav"]["format"] == soundfile.info(tmp_path / "out/tone.wav").subtype
    assert rows["tone.wav"]["format"] == ("FLOAT" if level == -65 else "PCM_16")


def test_a_locked_clip_of_an_earlier_version_is_written_again(tmp_path: Path, capsys):
    write(tmp_path / "in/clicks.wav", clicks())
    args = ["postprocess", str(tmp_path / "in"), str(tmp_path / "out"), "--passes", "0", "--locked"]
    assert main(args) == 0
    rows = read_jsonl(tmp_path / "out/postprocess.jsonl")
    write_jsonl(tmp_path / "out/postprocess.jsonl", [{k: v for k, v in row.items() if k != "format"} for row in rows])
    capsys.readouterr()
    assert main(args) == 0 and "before" not in capsys.readouterr().out
    assert main(args) == 0 and "1 of them before" in capsys.readouterr().out


def run(source: Path, out: Path, *flags: str) -> int:
    return main(["postprocess", str(source), str(out), "--passes", "0", *flags])


def test_another_input_never_mixes_with_the_results_of_the_first(tmp_path: Path, capsys):
    for name, ids in (("one", "ab"), ("two", "bc"), ("three", "abc")):
        for id in ids:
            write(tmp_path / name / f"{id}.wav", tone(1.0, level=0.1 * len(name)))
    assert run(tmp_path / "one", tmp_path / "out") == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert run(tmp_path / "two", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "holds 1 clips that do not come from this input (a.wav): choose another OUT" in said
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}, "nothing was touched"
    # more of the same goes on; a folder of somebody's clips is no folder of results
    assert run(tmp_path / "three", tmp_path / "out") == 0
    assert run(tmp_path / "one", tmp_path / "two") == 2 and "(b.wav, c.wav)" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["b.wav", "c.wav"]


def test_a_file_that_fails_leaves_no_result_of_an_earlier_input(tmp_path: Path):
    for id in "ab":
        write(tmp_path / f"one/{id}.wav", tone(1.0))
        write(tmp_path / f"two/{id}.wav", tone(1.0, level=0.01))
    (tmp_path / "two/a.wav").write_bytes(b"RIFF, but no wave")
    assert run(tmp_path / "one", tmp_path / "out") == 0
    assert run(tmp_path / "two", tmp_path / "out") == 1
    assert [p.name for p in (tmp_path / "out").glob("*.wav")] == ["b.wav"]


def test_the_input_may_lie_in_the_output_folder(tmp_path: Path):
    write(tmp_path / "set/raw/a.wav", tone(1.0))
    for _ in range(2):
        assert run(tmp_path / "set/raw", tmp_path / "set") == 0
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.wav")) == ["set/a.wav", "set/raw/a.wav"]
