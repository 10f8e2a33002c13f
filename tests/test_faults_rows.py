"""Rows of a table as people give them: systems that vanish, names twice, folders that share a name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from small_evaluation import IDS, PROMPTS, judges, prompts_file, render, run
from small_evaluation import world as world

from fluxlight.cli import main
from fluxlight.clips.folders import audio_files
from fluxlight.evaluation.evaluate import evaluate, read_scores
from fluxlight.evaluation.measure import reference_from_files
from fluxlight.files import write_json
from fluxlight.metrics.reference import Reference
from fluxlight.prompts import Prompt
from fluxlight.report.listening import listening_page


def score(tmp_path: Path, *flags: str) -> int:
    return main(["evaluate", "--prompts", str(prompts_file(tmp_path)), "--out", str(tmp_path / "out"), *flags])


@pytest.mark.parametrize("lacking", [0, 5, 11])
def test_a_system_that_one_row_lacks_is_named_wherever_the_row_stands(tmp_path: Path, lacking: int):
    table = {i: {"a": 1.0 + k, "b": 2.0 + k} for k, i in enumerate(IDS)}
    del table[IDS[lacking]]["b"]
    write_json(tmp_path / "s.json", table)
    with pytest.raises(ValueError, match=f"id '{IDS[lacking]}' has no b, which others have"):
        read_scores({"mos": tmp_path / "s.json"}, [Prompt(p["id"], p["prompt"]) for p in PROMPTS])


def test_names_that_are_given_twice_are_refused_in_one_line(world, tmp_path: Path, capsys):
    _, systems, _ = world
    a, b = (str(folder) for folder in systems.values())
    write_json(tmp_path / "s.json", {i: {"a": 1.0 + k, "b": 2.0} for k, i in enumerate(IDS)})
    scores = f"mos={tmp_path / 's.json'}"
    shutil.copytree(a, tmp_path / "other" / Path(a).name)
    for flags, said in (
        (["--system", f"A={a}", "--system", f"A={b}"], "NAME=FOLDER) A is given twice"),
        ([a, str(tmp_path / "other" / Path(a).name)], f"NAME=FOLDER) {Path(a).name} is given twice"),
        ([a, "--system", f"{Path(a).name}={b}"], f"NAME=FOLDER) {Path(a).name} is given twice"),
        (["--scores", scores, "--scores", scores], "measure --scores mos is given twice"),
        (["--system", f"A={a}", "--seeds", f"A={b}", "--seeds", f"A={b}"], "--seeds A: folder"),
        (["--system", f"A={a}", "--seeds", f"A={a}"], "is given twice"),
    ):
        assert score(tmp_path, *flags) == 2
        err = capsys.readouterr().err
        assert said in err and len(err.strip().splitlines()) == 1
    assert main(["error-rates", "--model", a, a, "--prompts", "x", "--out", str(tmp_path / "e")]) == 2
    assert "--model: folder" in capsys.readouterr().err


def test_two_references_of_one_kind_are_refused(world):
    _, systems, folder = world
    claps, rewards = judges()
    files = sorted(folder.iterdir())
    pair = [reference_from_files(part, claps["clap_b"], "locked", "r") for part in (files[:15], files[15:])]
    with pytest.raises(ValueError, match="reference at locked loudness, windows clip is given twice"):
        evaluate(systems, PROMPTS, pair, claps, rewards, seconds=None, resamples=20, repeats=2)


def test_rows_whose_names_differ_in_a_space_keep_their_own_audio(world, tmp_path: Path):
    systems = {"a b": world[1]["row0"], "a-b": world[1]["row1"], "A-B": render(tmp_path / "third", 9, 0.2)}
    page = tmp_path / "page/index.html"
    listening_page(page, PROMPTS, systems, {}, copy=True)
    folders = sorted((tmp_path / "page/audio").iterdir())
    assert len(folders) == 3 and len({folder.name.casefold() for folder in folders}) == 3
    heard = {tuple(soundfile.read(folder / f"{IDS[0]}.wav")[0][:50]) for folder in folders}
    assert len(heard) == 3


def again(folder: Path, out: Path, rate: int = 16000, seconds: float = 1.5, channels: int = 1) -> Path:
    """The clips of a folder at another rate, length or number of channels."""
    out.mkdir()
    for path in folder.iterdir():
        wave = soundfile.read(path)[0][: int(seconds * 16000)]
        wave = soxr.resample(wave, 16000, rate)
        soundfile.write(out / path.name, np.stack([wave] * channels, 1), rate)
    return out


def table_of(world, systems: dict[str, Path], out: Path) -> tuple[list[str], str]:
    result = run((world[0], systems, world[2]), out)
    return result["tables"]["locked"]["hints"], (out / "table.md").read_text()


def test_rows_and_reference_of_other_rates_lengths_and_channels_are_said(world, tmp_path: Path):
    base = world[1]["row0"]
    assert table_of(world, world[1], tmp_path / "t0")[0] == []
    low = again(base, tmp_path / "low", rate=22050)
    [hint], text = table_of(world, {"a": base, "b": low}, tmp_path / "t1")
    assert "(a 16000 Hz; b 22050 Hz; the reference 16000 Hz)" in hint and hint in text
    short = again(base, tmp_path / "short", seconds=1.2)
    [hint], _ = table_of(world, {"a": base, "b": short}, tmp_path / "t2")
    assert "(a 1.50 s; b 1.20 s)" in hint
    stereo = again(base, tmp_path / "stereo", channels=2)
    [hint], _ = table_of(world, {"a": base, "b": stereo}, tmp_path / "t3")
    assert hint.startswith("Channels of the files: a 1; b 2. Judges hear their mean")
    # within one row, and against the reference alone
    (low / f"{IDS[0]}.wav").write_bytes((base / f"{IDS[0]}.wav").read_bytes())
    [hint], _ = table_of(world, {"b": low}, tmp_path / "t4")
    assert "(b 16000 and 22050 Hz; the reference 16000 Hz)" in hint


def test_faults_of_equal_names_in_different_folders_are_told_apart(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path / "cache"))
    for name in ("a", "b/c"):
        render(tmp_path / "ref" / name, 1, 0.1, ["mix", "vocals"])
        soundfile.write(tmp_path / "ref" / name / "vocals.wav", np.zeros(32000), 16000)
    soundfile.write(tmp_path / "ref/a/mix.wav", np.zeros(48000), 48000)
    made = reference_from_files(audio_files(tmp_path / "ref"), judges()[0]["clap_b"])
    assert made.faults == dict.fromkeys(["a/mix.wav", "a/vocals.wav", "b/c/vocals.wav"], ["silent"])
    assert made.sample_rate == 16000 and made.rates == {"16000": 3, "48000": 1}
    made.save(tmp_path / "r.safetensors")
    loaded = Reference.load(tmp_path / "r.safetensors")
    assert (loaded.faults, loaded.rates) == (made.faults, made.rates)
    one = reference_from_files(audio_files(tmp_path / "ref/b"), judges()[0]["clap_b"])
    assert one.faults == {"vocals.wav": ["silent"]}


def test_plots_of_an_earlier_table_do_not_stand_beside_another(world, tmp_path: Path):
    out = tmp_path / "table"
    run(world, out, plots=True, protocols=("locked",))
    (out / "plots/own.png").write_bytes(b"a user's")
    assert {p.name for p in (out / "plots").iterdir()} == {"means_locked.png", "differences_locked.png", "own.png"}
    run((world[0], {"row0": world[1]["row0"]}, world[2]), out, plots=True)
    assert {p.name for p in (out / "plots").iterdir()} == {"means_locked.png", "own.png"}
