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
