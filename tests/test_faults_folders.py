"""Folders as people have them: hidden copies, thumbnails, links, other formats, folders named like clips."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from fluxlight.challenge.submission import check_clip
from fluxlight.cli import main
from fluxlight.cli.arguments import plain_warnings
from fluxlight.clips.faults import faults_of
from fluxlight.clips.folders import audio_files, find_clips
from fluxlight.clips.found import LeftAside
from fluxlight.clips.read import read_channels, read_clip
from fluxlight.evaluation.judging import Judges, judge_clip
from fluxlight.postprocess import LockedLoudness, integrated_loudness
from fluxlight.types import Clip

RATE = 16000
HIDDEN = (
    ".ipynb_checkpoints/a-checkpoint.wav", ".Trash-1000/files/b.wav", "@eaDir/c.wav/SYNO.mp3", "__MACOSX/._d.wav",
    "#recycle/e.wav", "$RECYCLE.BIN/f.wav", "lost+found/g.wav", "sub/._h.wav", "sub/.cache/i.wav",
)  # fmt: skip


def clip(path: Path, level: float = 0.2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = level * np.sin(np.arange(RATE * 2) / 20)
    soundfile.write(path, wave, RATE, format="FLAC" if path.suffix == ".flac" else "WAV")
    return path


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in audio_files(folder)]


def test_what_no_user_made_is_no_clip_and_is_named(tmp_path: Path):
    clip(tmp_path / "in/r0.wav")
    clip(tmp_path / "in/sub/r1.flac")
    assert names(tmp_path / "in") == ["r0.wav", "sub/r1.flac"]
    for name in HIDDEN:
        clip(tmp_path / "in" / name)
    with pytest.warns(LeftAside, match=r"hidden or a system's own \(#recycle/, \$RECYCLE.BIN/, .* and 4 more"):
        assert names(tmp_path / "in") == ["r0.wav", "sub/r1.flac"]
    # a folder that lies in a hidden one is taken when it is asked for
    clip(tmp_path / ".kept/clips/r.wav")
    assert names(tmp_path / ".kept/clips") == ["r.wav"]


def test_post_processing_leaves_them_aside_too(tmp_path: Path, capsys):
    clip(tmp_path / "in/r0.wav")
    for name in HIDDEN:
        clip(tmp_path / "in" / name)
    with pytest.warns(LeftAside, match="left aside: 9 hidden"):
        assert main(["postprocess", str(tmp_path / "in"), str(tmp_path / "out"), "--passes", "0"]) == 0
    assert "1 of 1 clips" in capsys.readouterr().out
    assert [p.name for p in (tmp_path / "out").rglob("*.wav")] == ["r0.wav"]


def test_on_a_command_line_it_is_one_line():
    before = warnings.formatwarning
    with plain_warnings("fluxlight rank", LeftAside):
        assert warnings.formatwarning("a, b", LeftAside, "file.py", 3) == "fluxlight rank: a, b\n"
        assert "file.py:3" in warnings.formatwarning("a, b", RuntimeWarning, "file.py", 3)
    assert warnings.formatwarning is before


def test_other_formats_and_folders_named_like_clips(tmp_path: Path):
    clip(tmp_path / "in/r0.wav")
    clip(tmp_path / "in/album.wav/r1.wav")
    (tmp_path / "in/r2.m4a").write_bytes(b"x")
    (tmp_path / "in/r3.OPUS").write_bytes(b"x")
    (tmp_path / "in/cover.jpg").write_bytes(b"x")
    with pytest.warns(LeftAside, match=r"2 of another format \(r2.m4a, r3.OPUS\)"):
        assert names(tmp_path / "in") == ["album.wav/r1.wav", "r0.wav"]
    (tmp_path / "in/r4.wav").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no clip in .*: r2, r4; there are 2 of another format"):
        find_clips(tmp_path / "in", ["r0", "r2", "r4"])
    assert find_clips(tmp_path / "in", ["r0"]) == [tmp_path / "in/r0.wav"]


def test_linked_folders_are_followed_once_and_never_in_a_circle(tmp_path: Path):
    clip(tmp_path / "elsewhere/x.wav")
    clip(tmp_path / "in/real/p0.wav")
    os.symlink(tmp_path / "elsewhere", tmp_path / "in/far")
    os.symlink(tmp_path / "in/real", tmp_path / "in/again")
    os.symlink(tmp_path / "in", tmp_path / "in/real/circle")
    os.symlink(tmp_path, tmp_path / "in/above")
    with pytest.warns(LeftAside, match=r"3 linked here, and there already \(above/, again/, real/circle/\)"):
        assert names(tmp_path / "in") == ["far/x.wav", "real/p0.wav"]


def test_a_link_that_leads_nowhere_is_an_error_that_names_it(tmp_path: Path, capsys):
    clip(tmp_path / "in/r0.wav")
    os.symlink(tmp_path / "gone.wav", tmp_path / "in/r1.wav")
    with pytest.raises(FileNotFoundError, match=r"1 links lead nowhere: r1.wav"):
        audio_files(tmp_path / "in")
    with pytest.raises(FileNotFoundError, match=r"no clip in .*: r1; there are 1 links that lead nowhere"):
        find_clips(tmp_path / "in", ["r0", "r1"])
    assert main(["postprocess", str(tmp_path / "in"), str(tmp_path / "out"), "--passes", "0"]) == 1
    said = capsys.readouterr()
    assert "1 of 2 clips" in said.out and "failed: r1.wav: " in said.err
    assert main(["postprocess", str(tmp_path / "in"), str(tmp_path / "out"), "--passes", "0"]) == 1


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A FLAC whose header states no length, as a stream's."""
    path = clip(tmp_path / "endless/p.flac")
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    return path


def test_a_flac_of_unknown_length_is_read_to_its_end(endless: Path, tmp_path: Path, capsys):
    assert soundfile.info(endless).frames > 1 << 60
    whole = clip(tmp_path / "whole.flac")
    for path in (endless, whole):
        samples, rate = read_clip(path)
        assert samples.shape == (2 * RATE,) and rate == RATE
    assert np.array_equal(read_clip(endless)[0], read_clip(whole)[0])
    assert main(["postprocess", str(endless.parent), str(tmp_path / "out"), "--passes", "0"]) == 0
    assert soundfile.info(tmp_path / "out/p.wav").frames == 2 * RATE
    with endless.open("rb") as file:
        assert check_clip(file) == ["states no length in its header"]


def test_a_name_that_is_no_utf8_is_read_and_a_broken_file_is_named(tmp_path: Path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    clip(tmp_path / "x.wav").rename(path)
    assert read_clip(path)[0].size == 2 * RATE
    (tmp_path / "broken.wav").write_bytes(b"RIFF, but no wave")
    for name in ("broken.wav", "absent.wav"):
        with pytest.raises(ValueError, match=rf"{name} cannot be read \([^\n]+\): render it again"):
            read_clip(tmp_path / name)


def channels(count: int, kind: str) -> np.ndarray:
    """Channels ``(N, count)``: alike, unrelated, or such that their mean is next to nothing."""
    draw = np.random.default_rng(3).normal(size=(RATE * 3, count)) * 0.05
    if kind == "alike":
        return np.repeat(draw[:, :1], count, axis=1)
    if kind == "cancel":
        draw[:, 1] = -sum(draw[:, k] for k in range(count) if k != 1)
    return draw


@pytest.mark.parametrize("count", [2, 4, 6])
def test_channels_that_cancel_are_a_fault_and_unrelated_ones_are_none(tmp_path: Path, count: int, capsys):
    for kind in ("alike", "unrelated", "cancel"):
        path = tmp_path / "in" / f"{kind}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, channels(count, kind), RATE)
        found = faults_of(*read_channels(path), 3.0)
        assert any("channels cancel" in fault for fault in found) == (kind == "cancel"), found
    nearly = channels(2, "alike") * [1, -0.8]
    assert faults_of(nearly.astype(np.float32), RATE, 3.0) == ["channels cancel (their mean is 19 dB below them)"]
    assert faults_of(np.zeros((RATE, 2), np.float32), RATE, None) == ["silent"]
    assert main(["postprocess", str(tmp_path / "in"), str(tmp_path / "out"), "--passes", "0"]) == 0
    looked = [line for line in capsys.readouterr().out.splitlines() if line.startswith("look at")]
    assert len(looked) == 1 and looked[0].startswith("look at: cancel.wav: channels cancel")


def test_the_loudness_of_a_file_is_that_of_all_its_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path / "cache"))
    said = {}
    for name, wave in {"mono": channels(1, "alike"), "alike": channels(2, "alike"), "six": channels(6, "alike"),
                       "unrelated": channels(2, "unrelated"), "cancel": channels(2, "cancel")}.items():  # fmt: skip
        soundfile.write(tmp_path / f"{name}.wav", wave, RATE, subtype="FLOAT")
        said[name] = judge_clip(tmp_path / f"{name}.wav", "", "locked", Judges(), 3.0)
    level = {name: value["loudness"] for name, value in said.items()}
    for name in ("alike", "unrelated", "cancel"):
        assert level[name] == pytest.approx(level["mono"] + 3.01, abs=0.1)
    assert said["cancel"]["faults"] == ["channels cancel (their mean is silence)", "silent"]
    assert said["alike"]["faults"] == [] and said["alike"]["file"] == (RATE, 3.0, 2)


@pytest.mark.parametrize("rate", [800, 2000, 3000, 4000, 6000, 7999, 8000])
def test_a_clip_of_a_low_rate_has_a_loudness(rate: int):
    tone = torch.sin(2 * torch.pi * 200 * torch.arange(3 * 44100) / 44100)
    low = torch.sin(2 * torch.pi * 200 * torch.arange(3 * rate) / rate)
    assert integrated_loudness(low, rate) == pytest.approx(integrated_loudness(tone, 44100), abs=0.3)
    leveled = LockedLoudness(-23)(Clip("x", low, rate))
    assert leveled.notes == ["locked: -23 LUFS"] and bool(torch.isfinite(leveled.audio).all())
