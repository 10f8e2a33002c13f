"""Measuring folders of clips: judged once, by any number of processes, in any format, with every fault named."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from small_evaluation import IDS, RATE, SECONDS, FakeClap, judges, prompts_file, render, run
from small_evaluation import world as world

from fluxlight.cli import main as fluxlight
from fluxlight.clips.faults import find_faults
from fluxlight.clips.folders import find_clips
from fluxlight.evaluation.measure import Judges, judge_clip, measure, measure_all, reference_from_files
from fluxlight.metrics import Reference
from fluxlight.prompts import read_prompts


def main(words: list[str]) -> int:
    """``fluxlight evaluate``, as a user runs it."""
    return fluxlight(["evaluate", *words])


def test_judged_once(world) -> None:
    claps, rewards = judges()
    ask = Judges(claps, rewards)
    prompts = read_prompts(prompts_file(world[0]))
    first = measure("row0", world[1]["row0"], prompts, ask, seconds=SECONDS)
    calls = claps["clap_b"].calls
    again = measure("row0", world[1]["row0"], prompts, ask, seconds=SECONDS)
    assert claps["clap_b"].calls == calls == len(IDS), "the second measurement reads the cache"
    assert all(np.array_equal(first.scores[m], again.scores[m]) for m in first.scores)
    delivered = measure("row0", world[1]["row0"], prompts, ask, "delivered", seconds=SECONDS)
    assert not np.allclose(first.scores["reward_b"], delivered.scores["reward_b"]), "gain reaches the judges"


def test_processes_say_the_same(world, monkeypatch) -> None:
    prompts = read_prompts(prompts_file(world[0]))
    monkeypatch.setattr("fluxlight.evaluation.judging.WORTH_A_POOL", 5)
    together = measure_all(world[1], prompts, Judges(*judges()), seconds=SECONDS, jobs=2)
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(world[0] / "other cache"))
    alone = measure_all(world[1], prompts, Judges(*judges()), seconds=SECONDS)
    for one, other in zip(together, alone, strict=True):
        assert all(np.array_equal(one.scores[m], other.scores[m]) for m in other.scores)
        assert np.array_equal(one.embeddings["clap_b"], other.embeddings["clap_b"])


def test_locked_loudness_removes_gain(world) -> None:
    folder = world[0] / "quiet"
    folder.mkdir()
    for path in world[1]["row0"].iterdir():
        audio, rate = soundfile.read(path)
        soundfile.write(folder / path.name, 0.25 * audio, rate, subtype="FLOAT")
    claps, rewards = judges()
    prompts = read_prompts(prompts_file(world[0]))
    loud, quiet = (measure(n, f, prompts, Judges(claps, rewards), seconds=SECONDS) for n, f in
                   (("row0", world[1]["row0"]), ("quiet", folder)))  # fmt: skip
    assert quiet.scores["reward_b"] == pytest.approx(loud.scores["reward_b"], abs=2e-4)
    assert loud.loudness - quiet.loudness == pytest.approx(np.full(len(IDS), 12.04), abs=0.05)


def test_formats_rates_and_channels(world, tmp_path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    time = np.arange(2 * 22050) / 22050
    tone = 0.2 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(folder / "a.flac", np.stack([tone, tone], 1), 22050)
    soundfile.write(folder / "b.mp3", tone, 22050)
    soundfile.write(folder / "c.wav", tone, 22050, subtype="PCM_24")
    files = find_clips(folder, ["c", "a", "b"])
    assert [p.suffix for p in files] == [".wav", ".flac", ".mp3"]
    clap = FakeClap()
    said = [judge_clip(p, "x", "locked", Judges({"c": clap}), None)["claps"]["c"] for p in files]
    assert said[0] == pytest.approx(said[1], abs=1e-3) and said[0] == pytest.approx(said[2], abs=0.05)


def test_faults_are_named_and_left_out_only_when_asked(world) -> None:
    folder = world[1]["row1"]
    n = int(RATE * SECONDS)
    tone = np.sin(2 * np.pi * 300 * np.arange(n) / RATE)
    soundfile.write(folder / "p01.wav", np.zeros(n), RATE)
    broken = tone.copy()
    broken[5] = np.nan
    soundfile.write(folder / "p02.wav", broken, RATE, subtype="FLOAT")
    soundfile.write(folder / "p03.wav", np.clip(4 * tone, -1, 1), RATE)
    soundfile.write(folder / "p04.wav", 0.5 * tone[: n // 3], RATE)
    result = run(world, world[0] / "with")
    faults = result["faults"]["row1"]
    assert faults["p01"] == ["silent"] and "not finite" in faults["p02"][0] and "clipped" in faults["p03"][0]
    assert "truncated (0.50 s of 1.5 s)" in faults["p04"][0] and set(faults) == {"p01", "p02", "p03", "p04"}
    assert result["frame"]["n"] == 12
    less = run(world, world[0] / "without", leave_out_faulty=True)
    assert less["frame"]["n"] == 8 and less["frame"]["left_out"] == ["p01", "p02", "p03", "p04"]
    assert all(row["n"] == 8 for row in less["tables"]["locked"]["systems"].values())
    assert "p03 clipped" in (world[0] / "without" / "table.md").read_text()


class Strict(FakeClap):
    """A judge that takes music rates only, as the published ones do."""

    def embed_audio(self, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
        if sample_rate < 16000:
            raise ValueError(f"sample_rate is {sample_rate} Hz")
        return super().embed_audio(audio, sample_rate)


def test_a_telephone_recording_is_a_fault_and_not_the_end(world) -> None:
    folder, n = world[1]["row0"], int(8000 * SECONDS)
    soundfile.write(folder / "p06.wav", 0.3 * np.sin(2 * np.pi * 500 * np.arange(n) / 8000), 8000)
    row = measure("row0", folder, read_prompts(prompts_file(world[0])), Judges({"c": Strict()}), seconds=SECONDS)
    assert row.faults == {"p06": ["low sample rate (8000 Hz)"]} and np.isfinite(row.embeddings["c"]).all()


def test_faulty_reference_clips_are_named_and_left_out_only_when_asked(world, capsys) -> None:
    files = sorted(world[2].iterdir())
    soundfile.write(files[3], np.zeros(int(RATE * SECONDS)), RATE)
    whole = reference_from_files(files, FakeClap(), "locked", "real")
    less = reference_from_files(files, FakeClap(), "locked", "real", leave_out_faulty=True)
    assert whole.faults == {files[3].name: ["silent"]} and (whole.n, less.n, less.faults) == (30, 29, {})
    whole.save(world[0] / "r.safetensors")
    assert Reference.load(world[0] / "r.safetensors").faults == whole.faults
    run(world, world[0] / "out")
    assert f"- the reference: {files[3].name} silent" in (world[0] / "out/table.md").read_text()


def test_silent_tail_and_length() -> None:
    clip = np.zeros(4 * RATE, np.float32)
    clip[: 2 * RATE] = 0.1
    assert find_faults(clip, RATE, 4) == ["truncated (last 2.0 s are digital silence)"]
    assert "wrong length" in find_faults(clip[: 2 * RATE], RATE, 1)[0]
    assert find_faults(clip[: 2 * RATE], RATE, None) == []


def test_missing_and_surplus_are_listed(world, capsys) -> None:
    folder = world[1]["row0"]
    (folder / "p03.wav").rename(folder / "p99.wav")
    (folder / "p05.wav").rename(folder / "p98.wav")
    arguments = [str(folder), "--prompts", str(prompts_file(world[0])), "--out", str(world[0] / "out")]
    assert main(arguments) == 2
    assert "2 of 12 prompts have no clip" in (error := capsys.readouterr().err) and "p03, p05" in error
    assert error.count("\n") == 1
    render(world[0] / "again", 4, 0.1)
    (world[0] / "again" / "p77.wav").write_bytes((folder / "p00.wav").read_bytes())
    with pytest.raises(ValueError, match="belong to no prompt: p77"):
        find_clips(world[0] / "again", IDS)
    (world[0] / "again" / "p77.wav").rename(world[0] / "again" / "p00.flac")
    with pytest.raises(ValueError, match="more than one file per id"):
        find_clips(world[0] / "again", IDS)


def test_a_stopped_evaluation_goes_on(world, monkeypatch) -> None:
    """A judge that fails half way leaves what it said; the second call asks for the rest only."""
    prompts = read_prompts(prompts_file(world[0]))
    clap = FakeClap()
    inner = clap.embed_audio

    def stop(audio: torch.Tensor, rate: int) -> torch.Tensor:
        if clap.calls == 7:
            raise KeyboardInterrupt
        return inner(audio, rate)

    monkeypatch.setattr(clap, "embed_audio", stop)
    with pytest.raises(KeyboardInterrupt):
        measure("row0", world[1]["row0"], prompts, Judges({"c": clap}), seconds=SECONDS)
    monkeypatch.undo()
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(world[0] / "cache"))
    measure("row0", world[1]["row0"], prompts, Judges({"c": clap}), seconds=SECONDS)
    assert clap.calls == len(IDS)
    beside = {p.suffix for folder in world[1].values() for p in folder.iterdir()}
    assert beside == {".wav"}, "nothing is written into the user's folders"


def test_a_table_of_a_spreadsheet_is_read(tmp_path) -> None:
    (tmp_path / "p.csv").write_bytes("\ufeffid,prompt\r\na,first tune\r\n".encode())
    assert [(p.id, p.prompt) for p in read_prompts(tmp_path / "p.csv")] == [("a", "first tune")]
