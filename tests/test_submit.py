"""Submit: the zip has the same bytes each time, and every fault is named, without unpacking anything."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from fluxlight import cli
from fluxlight.challenge.submission import BadSubmission, check_clip, check_zip, write_submission
from fluxlight.files import sha256

IDS = ["0", "1", "tune_b"]
RATE = 44_100


def tone(seconds: float = 10, level: float = 0.5, rate: int = RATE) -> np.ndarray:
    return (level * np.sin(np.arange(round(seconds * rate)) * 0.05)).astype(np.float32)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for k, id in enumerate(IDS):
        soundfile.write(folder / f"{id}.wav", tone(level=0.2 + 0.1 * k), RATE, subtype="PCM_16")
    (folder / "manifest.jsonl").write_text("")
    return folder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps([{"id": id, "prompt": "x"} for id in IDS]))
    return path


def test_the_zip_holds_the_clips_and_its_bytes_depend_on_them_alone(clips: Path, tmp_path: Path) -> None:
    first = write_submission(clips, IDS, tmp_path / "a.zip")
    for path in clips.iterdir():
        path.touch()
    assert sha256(first) == sha256(write_submission(clips, IDS, tmp_path / "b.zip"))
    with zipfile.ZipFile(first) as file:
        assert file.namelist() == [f"{id}.wav" for id in IDS]
        assert all(file.read(f"{id}.wav") == (clips / f"{id}.wav").read_bytes() for id in IDS)
    assert check_zip(first, IDS) == []
    assert check_zip(first) == ["3 files, the challenge wants 100"]


def nan() -> np.ndarray:
    audio = tone()
    audio[5] = np.nan
    return audio


@pytest.mark.parametrize(
    ("audio", "settings", "fault"),
    [
        (tone(9.9), {}, "436590 samples, not 441000"),
        (np.append(tone(), 0), {}, "441001 samples"),
        (tone(60), {}, "2646000 samples"),
        (tone(rate=48_000), {"samplerate": 48_000}, "48000 Hz, not 44100"),
        (np.stack([tone(), tone()], 1), {}, "2 channels, not mono"),
        (tone(level=0), {}, "silent"),
        (tone(level=1.5), {}, "clipped"),
        (nan(), {"subtype": "FLOAT"}, "not finite"),
        (tone(), {"format": "FLAC"}, "is FLAC, not WAV"),
    ],
)
def test_a_faulty_clip_is_named(audio: np.ndarray, settings: dict[str, Any], fault: str) -> None:
    content = io.BytesIO()
    given = {"samplerate": RATE, "format": "WAV", "subtype": "PCM_16"} | settings
    soundfile.write(content, audio, **given)
    content.seek(0)
    problems = check_clip(content)
    assert len(problems) == 1 and fault in problems[0], problems


def test_something_else_than_audio_is_named() -> None:
    assert "is no audio" in check_clip(io.BytesIO(b"RIFF and no more"))[0]


def test_missing_and_surplus_clips_stop_the_zip(clips: Path, tmp_path: Path) -> None:
    (clips / "1.wav").rename(clips / "2.wav")
    (clips / "3.flac").write_bytes(b"")
    with pytest.raises(BadSubmission, match="3 problems: 1.wav: missing") as error:
        write_submission(clips, IDS, tmp_path / "a.zip")
    assert error.value.problems == ["1.wav: missing", "'2.wav' belongs to no prompt", "'3.flac' is no wav"]
    assert not (tmp_path / "a.zip").exists()


def zipped(path: Path, clips: Path, change: Callable[[zipfile.ZipFile], None]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for id in IDS:
            file.write(clips / f"{id}.wav", f"{id}.wav")
        change(file)
    return path


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../../climbed.wav", "not a plain name"),
        ("/etc/climbed.wav", "not a plain name"),
        ("..\\climbed.wav", "not a plain name"),
        ("clips/0.wav", "not a plain name"),
        ("__MACOSX/._0.wav", "not a plain name"),
        ("clips/", "is a folder"),
        ("notes.txt", "is no wav"),
        ("7.wav", "belongs to no prompt"),
    ],
)
def test_a_strange_name_in_a_zip_is_only_a_name(clips: Path, tmp_path: Path, name: str, problem: str) -> None:
    before = {p for p in tmp_path.rglob("*")}
    path = zipped(tmp_path / "a.zip", clips, lambda file: file.writestr(name, b"x"))
    problems = check_zip(path, IDS)
    assert len(problems) == 1 and problem in problems[0], problems
    assert {p for p in tmp_path.rglob("*")} - before == {path}, "nothing is unpacked"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_doubles_and_bombs_are_named(clips: Path, tmp_path: Path) -> None:
    double = zipped(tmp_path / "a.zip", clips, lambda file: file.write(clips / "0.wav", "0.wav"))
    assert "'0.wav' is there 2 times" in check_zip(double, IDS)
    bomb = zipped(tmp_path / "b.zip", clips, lambda file: file.writestr("9.wav", bytes(40 << 20)))
    assert bomb.stat().st_size < 4 << 20
    assert check_zip(bomb, [*IDS, "9"]) == ["9.wav: larger than 16 MiB"]


def test_damage_is_named_at_every_cut(clips: Path, tmp_path: Path) -> None:
    whole = write_submission(clips, IDS, tmp_path / "a.zip").read_bytes()
    cut = tmp_path / "cut.zip"
    for size in (0, 10, len(whole) // 2, len(whole) - 3):
        cut.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="no zip file or was cut short"):
            check_zip(cut, IDS)
    cut.write_bytes(whole[:2000] + b"\xff" + whole[2001:])
    assert check_zip(cut, IDS)[0].startswith("0.wav: cannot be read")


def test_the_command(clips: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s.zip"
    assert cli.main(["submit", str(clips), "--prompts", str(prompts), "--out", str(out)]) == 0
    assert cli.main(["submit", "--check", str(out), "--prompts", str(prompts)]) == 0
    assert "valid submission of 3 clips" in capsys.readouterr().out
    assert cli.main(["submit", "--check", str(out)]) == 1
    assert "3 files, the challenge wants 100" in capsys.readouterr().out
    zipped(out, clips, lambda file: file.writestr("\x1b[31mred.wav", b""))
    assert cli.main(["submit", "--check", str(out), "--prompts", str(prompts)]) == 1
    said = capsys.readouterr()
    assert "\x1b" not in said.out and "1 problem" in said.err
    for words in ([str(clips)], [], [str(clips), "--check", str(out)], ["--check", str(tmp_path / "none.zip")]):
        assert cli.main(["submit", *words]) == 2
    assert cli.main(["submit", str(tmp_path / "none"), "--prompts", str(prompts)]) == 2
    assert "audio folder" in capsys.readouterr().err


def test_the_published_clips_are_valid(shared: Path, tmp_path: Path) -> None:
    folder = shared / "sdd100/wavs/sub2"
    ids = sorted(path.stem for path in folder.glob("*.wav"))
    assert len(ids) == 8 and check_zip(write_submission(folder, ids, tmp_path / "a.zip"), ids) == []
