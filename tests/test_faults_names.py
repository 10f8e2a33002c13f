"""File names as people have them: bytes that are no UTF-8, and names as long as a file system takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_evaluation import render

from fluxlight.cli import main
from fluxlight.clips.candidates import file_stem, load_audio, read_candidates, write_batch
from fluxlight.files import append_jsonl, atomic_path, read_json, read_jsonl, write_json, write_text
from fluxlight.report.listening import listening_page

LATIN = os.fsdecode(b"voil\xe0")
RATE = 16000


def latin(folder: Path) -> Path:
    """Three clips, of which one has a name in Latin-1."""
    render(folder, 1, 0.1, ["a", "b", "c"])
    os.rename(folder / "b.wav", folder / f"{LATIN}.wav")
    return folder


def test_a_name_that_is_no_utf8_stops_nothing(tmp_path: Path):
    source, out = latin(tmp_path / "in"), tmp_path / "out"
    (source / os.fsdecode(b"br\xfcche.wav")).write_bytes(b"RIFF, but no wave")
    code = [sys.executable, "-m", "fluxlight", "postprocess", str(source), str(out), "--passes", "0"]
    for before in ("", ", 3 of them before"):
        done = subprocess.run(code, capture_output=True)
        assert done.returncode == 1 and f"3 of 4 clips in {out}{before}\n".encode() in done.stdout
        assert b"failed: br\\udcfcche.wav: audio file" in done.stderr and b"Traceback" not in done.stderr
    assert sorted(p.name for p in out.glob("*.wav")) == sorted(["a.wav", "c.wav", f"{LATIN}.wav"])
    assert {row["file"] for row in read_jsonl(out / "postprocess.jsonl")} >= {"a.wav", "c.wav", f"{LATIN}.wav"}


def test_such_a_name_is_written_and_read_back(tmp_path: Path):
    write_json(tmp_path / "a.json", {LATIN: [LATIN, "é"]})
    append_jsonl(tmp_path / "b.jsonl", [{"file": LATIN}])
    append_jsonl(tmp_path / "b.jsonl", [{"file": "é"}])
    assert read_json(tmp_path / "a.json") == {LATIN: [LATIN, "é"]} == json.loads((tmp_path / "a.json").read_bytes())
    assert [row["file"] for row in read_jsonl(tmp_path / "b.jsonl")] == [LATIN, "é"]
    write_text(tmp_path / f"{LATIN}.md", f"- {LATIN}")
    assert (tmp_path / f"{LATIN}.md").read_text() == "- voil\\udce0"


def test_a_page_links_such_a_name(tmp_path: Path):
    folder = latin(tmp_path / "clips")
    prompts = [{"id": id, "prompt": id} for id in ("a", LATIN, "c")]
    page = listening_page(tmp_path / "page/index.html", prompts, {"row": folder}, {})
    assert "clips/voil%E0.wav" in page.read_text() and len(list((tmp_path / "page/spectrograms/row").iterdir())) == 3


@pytest.mark.parametrize("name", ["b" * 251 + ".wav", "é" * 125 + ".wav", "a." + "c" * 253])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path, name: str):
    assert len(os.fsencode(name)) in (254, 255)
    with atomic_path(tmp_path / name) as temporary:
        temporary.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "x"
    with pytest.raises(RuntimeError), atomic_path(tmp_path / name):
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_long_names_go_through_post_processing_and_onto_the_page(tmp_path: Path):
    ids = ["b" * 251, "é" * 125]
    render(tmp_path / "in", 1, 0.1, ids)
    assert main(["postprocess", str(tmp_path / "in"), str(tmp_path / "out"), "--passes", "0"]) == 0
    assert sorted(p.stem for p in (tmp_path / "out").glob("*.wav")) == ids
    prompts = [{"id": id, "prompt": id} for id in ids]
    listening_page(tmp_path / "page/index.html", prompts, {"x" * 300: tmp_path / "out"}, {}, copy=True)
    assert len(list((tmp_path / "page/audio").rglob("*.wav"))) == 2


def test_candidates_of_long_ids_are_kept_apart(tmp_path: Path):
    ids = ["a" * 300 + end for end in "xy"] + ["short"]
    audio = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, (3, 800)).astype(np.float32))
    write_batch(tmp_path, ids, ids, [1, 1, 1], "0" * 16, audio, torch.zeros(3, 2, 2), RATE)
    for row, wave in zip(read_candidates(tmp_path), audio, strict=True):
        assert np.abs(load_audio(tmp_path, row)[0] - wave.numpy()).max() < 1e-4
    assert file_stem("short", 1, "0" * 16) == "short_1_00000000" and soundfile.info(tmp_path / row.audio).frames == 800
