"""Post-processing of whole folders: bad files, what has changed, several processes, senseless calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_postprocess import RATE, tone
from small_postprocess import bag as bag

from fluxlight.cli import main
from fluxlight.files import read_jsonl, sha256, write_jsonl
from fluxlight.postprocess import LockedLoudness, Loudness, Separate, integrated_loudness
from fluxlight.postprocess.folder import process_folder, recipe_of


def write(path: Path, audio: torch.Tensor, subtype: str = "PCM_16") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio.T.numpy(), RATE, subtype=subtype)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "in"
    for k in range(4):
        write(source / "some" / f"{k}.wav", tone(1.0, level=0.05 + 0.1 * k))
    write(source / "both.flac", torch.stack([tone(1.0), torch.zeros(RATE)]))
    write(source / "silent.wav", torch.zeros(RATE))
    write(source / "short.wav", tone(0.2))
    (source / "bad.wav").write_bytes(b"RIFF, but no wave")
    (source / "notes.txt").write_text("no audio")
    return source


def test_a_folder_goes_through_and_the_bad_file_is_named(folder: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    args = ["postprocess", str(folder), str(out), "--passes", "0", "--batch", "3"]
    assert main(args) == 1
    said = capsys.readouterr()
    assert "7 of 8 clips" in said.out and "unchanged: silent.wav: loudness unchanged: silent" in said.out
    assert "unchanged: short.wav" in said.out and "failed: bad.wav" in said.err
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.wav")) == [
        "both.wav", "short.wav", "silent.wav", *(f"some/{k}.wav" for k in range(4))
    ]  # fmt: skip
    for name in ("silent.wav", "short.wav"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    wave, rate = soundfile.read(out / "some" / "0.wav", dtype="float32")
    assert wave.ndim == 1 and abs(integrated_loudness(torch.from_numpy(wave), rate) + 16.5) < 0.1
    # again: only what failed is tried
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*.wav")}
    assert main(args) == 1
    assert "7 of them before" in capsys.readouterr().out
    assert stamps == {p: p.stat().st_mtime_ns for p in out.rglob("*.wav")}


def test_what_has_changed_is_done_again(folder: Path, tmp_path: Path):
    (folder / "bad.wav").unlink()
    out = tmp_path / "out"

    def again(*steps) -> list[str]:
        return [row["file"] for row in process_folder(folder, out, steps or [Loudness()]) if not row["done"]]

    assert len(again()) == 7 and again() == []
    write(folder / "some" / "1.wav", tone(1.0, level=0.4))
    (out / "some" / "2.wav").unlink()
    assert again() == ["some/1.wav", "some/2.wav"]
    before = sha256(out / "some" / "0.wav")
    assert len(again(Loudness(-20.0))) == 7 and sha256(out / "some" / "0.wav") != before
    # a kill in the middle of a row costs that row
    with (out / "postprocess.jsonl").open("a") as file:
        file.write('{"file": "some/0.wa')
    assert again(Loudness(-20.0)) == []
    assert len(read_jsonl(out / "postprocess.jsonl")) == 7 + 2 + 7


def test_processes_give_the_same_files(folder: Path, tmp_path: Path, bag: Path):
    (folder / "bad.wav").unlink()
    steps = [Separate(1, "tiny", str(bag)), Loudness()]
    one = process_folder(folder / "some", tmp_path / "one", steps, batch=2)
    two = process_folder(folder / "some", tmp_path / "two", steps, jobs=2, batch=2)
    assert [row["file"] for row in one] == [row["file"] for row in two]
    for row in one:
        waves = [soundfile.read(tmp_path / name / row["output"])[0] for name in ("one", "two")]
        assert np.abs(waves[0] - waves[1]).max() < 2e-4, row["file"]


def test_the_recipe_is_what_is_done_not_where(bag: Path):
    near = recipe_of([Separate(3, "tiny", str(bag)), Loudness()])
    far = recipe_of([Separate(3, "tiny", "/elsewhere", optional=True, device="cuda", batch=9), Loudness()])
    assert near == far != recipe_of([Separate(2, "tiny", str(bag)), Loudness()])
    assert recipe_of([Loudness()]) != recipe_of([LockedLoudness(-16.5)])


def test_a_rendered_folder_keeps_its_rows(tmp_path: Path):
    source, out = tmp_path / "slice", tmp_path / "out"
    write(source / "audio" / "a_1_x.wav", tone())
    row = {"id": "a", "prompt": "p", "seed": 1, "checkpoint": "x", "audio": "audio/a_1_x.wav", "latent": "a.npy",
           "error": "", "extra": {"step": 3}}  # fmt: skip
    write_jsonl(source / "candidates.jsonl", [row])
    process_folder(source, out, [Loudness()])
    from fluxlight.clips.folders import find_clips, rendering_of

    assert find_clips(out, ["a"]) == [out / "audio" / "a_1_x.wav"]
    assert rendering_of(out)["postprocess"] == "loudness: -16.5 LUFS" and rendering_of(out)["step"] == 3


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["/nowhere", "out"], "/nowhere is no folder"),
        (["in", "in/out"], "lies in"),
        (["empty", "out"], "holds no audio"),
        (["in", "out", "--no-loudness"], "nothing to do"),
        (["twins", "out"], "would both become a.wav"),
        (["in", "out", "--jobs", "0"], "jobs is 0"),
    ],
)
def test_a_senseless_call_is_one_line(args, says, folder: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for suffix in ("wav", "flac"):
        write(tmp_path / "twins" / f"a.{suffix}", tone(0.5))
    assert main(["postprocess", *args, "--passes", "0"]) == 2
    err = capsys.readouterr().err.strip()
    assert says in err and "\n" not in err and not (tmp_path / "out").exists()
