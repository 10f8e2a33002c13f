"""``evaluate`` end to end: the published score files, folders of audio with fake judges, bad input, equal bytes."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from fluxlight.metrics import Reference
from fluxlight.metrics.clips import find_clips, find_faults, read_prompts
from fluxlight.metrics.compare import pairs_of
from fluxlight.metrics.evaluate import evaluate
from fluxlight.metrics.evaluate_cli import main
from fluxlight.metrics.measure import (
    Judges,
    judge_clip,
    measure,
    measure_all,
    reference_from_clips,
    reference_from_files,
)
from fluxlight.report.listening import listening_page
from fluxlight.report.table import decomposition_table, label

RATE, SECONDS = 16000, 1.5
IDS = [f"p{k:02d}" for k in range(12)]
PROMPTS = [{"id": i, "prompt": "bass " * (1 + k % 4) + "tune"} for k, i in enumerate(IDS)]


class FakeClap:
    """Audio: level in four bands. Text: its words counted. Both as unit vectors; every call is counted."""

    def __init__(self, name: str = "fake-clap-1") -> None:
        self.identity, self.calls = name, 0

    def embed_audio(self, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
        self.calls += 1
        power = torch.fft.rfft(audio).abs().square()
        power = power[..., : power.shape[-1] // 2]  # the clips live below 4 kHz
        bands = torch.stack([part.mean(-1) for part in power.tensor_split(4, -1)], -1).sqrt()
        return torch.nn.functional.normalize(torch.cat([bands, bands.flip(-1) * 0.1], -1) + 1e-6, dim=-1)

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        rows = [torch.linspace(len(text) / 10, 1, 8) for text in texts]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


class FakeReward:
    """Prefers steady clips; a scale apart for each prompt length."""

    def __init__(self, name: str = "fake-reward-1") -> None:
        self.identity, self.calls = name, 0

    def score(self, audio: torch.Tensor, sample_rate: int, prompts: list[str]) -> torch.Tensor:
        self.calls += 1
        assert torch.isfinite(audio).all()
        return -audio.std(-1) + torch.tensor([len(p) / 100 for p in prompts])


def render(folder: Path, seed: int, noise: float, names: list[str] = IDS, suffix: str = "wav") -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    time = np.arange(int(RATE * SECONDS)) / RATE
    for k, name in enumerate(names):
        tone = 0.3 * np.sin(2 * np.pi * (200 + 90 * (k % 12)) * time) + noise * rng.normal(size=time.size)
        soundfile.write(folder / f"{name}.{suffix}", np.clip(tone, -0.9, 0.9), RATE)
    return folder


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path / "cache"))
    systems = {"row0": render(tmp_path / "row0", 1, 0.1), "row1": render(tmp_path / "row1", 2, 0.02)}
    reference_folder = render(tmp_path / "real", 3, 0.03, [f"r{k}" for k in range(30)])
    return tmp_path, systems, reference_folder


def judges() -> tuple[dict, dict]:
    claps = {"clap_b": FakeClap("fake-b"), "clap_a": FakeClap("fake-a")}
    return claps, {"reward_a": FakeReward("fake-ra"), "reward_b": FakeReward("fake-rb")}


def run(world, out: Path, **settings) -> dict:
    _, systems, folder = world
    claps, rewards = judges()
    reference = reference_from_files(sorted(folder.iterdir()), claps["clap_b"], "locked", "real")
    return evaluate(systems, PROMPTS, reference, claps, rewards, {"clap_a", "reward_a"}, out, seconds=SECONDS,
                    **{"resamples": 60, "repeats": 5, "plots": False, **settings})  # fmt: skip


def test_published_scores_are_reproduced(shared, tmp_path, capsys) -> None:
    folder = shared / "sdd100"
    arguments = ["--scores", f"reward={folder}/reward_scores.json", "--scores", f"clap={folder}/clap_scores.json"]
    arguments += ["--prompts", f"{folder}/prompts.json", "--baseline", "baseline", "--out", str(tmp_path)]
    assert main(arguments) == 0
    table = json.loads((tmp_path / "table.json").read_text())["tables"]["scores"]
    means = {s: [table["systems"][s]["scores"][m]["mean"] for m in ("reward", "clap")] for s in table["order"]}
    # FACTS section 11
    assert means["sub1"] == pytest.approx([0.5340, 0.2844], abs=5e-5)
    assert means["sub2"] == pytest.approx([0.5505, 0.2988], abs=5e-5)
    assert means["baseline"] == pytest.approx([-0.0441, 0.0940], abs=5e-5)
    rows = {(c["system"], c["metric"]): c for c in table["comparisons"]}
    reward, clap = rows["sub1", "reward"], rows["sub1", "clap"]
    assert reward["difference"] == pytest.approx(0.578, abs=5e-4) and reward["t"] == pytest.approx(7.8, abs=0.05)
    assert (reward["wins"], reward["n"]) == (84, 100)
    assert clap["difference"] == pytest.approx(0.190, abs=5e-4) and clap["t"] == pytest.approx(12.4, abs=0.05)
    assert all(c["against"] == "baseline" and c["p_holm"] >= c["p"] for c in table["comparisons"])
    printed = capsys.readouterr().out
    assert "0.5505" in printed and "84/100" in printed
    assert (tmp_path / "plots" / "differences_scores.png").stat().st_size > 5000


def test_table_says_what_a_number_needs(world) -> None:
    result = run(world, world[0] / "out")
    table = result["tables"]["locked"]
    assert table["order"] == ["row0", "row1"] and "-23 LUFS" in table["loudness"]
    row = table["systems"]["row1"]
    assert row["distances"]["fad"]["low"] < row["distances"]["fad"]["value"] < row["distances"]["fad"]["high"]
    assert row["distances"]["fad"]["value"] < table["systems"]["row0"]["distances"]["fad"]["value"]
    assert table["floor"]["fad"]["n"] == 12 and table["floor"]["fad"]["rest"] == 18
    assert {c["metric"] for c in table["comparisons"]} == {"clap_b", "clap_a", "reward_a", "reward_b", "fad", "kad"}
    fad = next(c for c in table["comparisons"] if c["metric"] == "fad")
    assert fad["low"] <= fad["difference"] <= fad["high"] and fad["against"] == "row0"
    assert set(row["own_vs_shuffled"]) > {"difference", "p_t", "recall_at_10"}
    assert table["agreement"][0]["judges"] == ["clap_b", "clap_a"]
    assert table["agreement"][0]["spearman"] == pytest.approx(1)  # the two fakes agree
    assert result["frame"]["judges"]["reward_b"] == "fake-rb" and result["frame"]["optimised"] == ["clap_a", "reward_a"]
    text = decomposition_table(result)
    assert "reward A †" in text and "real against real" in text and "0.5998" in text
    assert text.index("published table") > text.index("Paired comparisons")


def test_equal_inputs_give_equal_bytes_and_no_path(world) -> None:
    one, two = world[0] / "one", world[0] / "two"
    run(world, one, plots=True)
    run(world, two, plots=True)
    for name in ("table.json", "table.md", "scores.json", "plots/means_locked.png"):
        a, b = (one / name).read_bytes(), (two / name).read_bytes()
        assert hashlib.sha256(a).hexdigest() == hashlib.sha256(b).hexdigest(), name
    text = (one / "table.json").read_text() + (one / "table.md").read_text()
    assert str(world[0]) not in text and not re.search(r"20\d\d-\d\d-\d\d", text)


def test_judged_once(world) -> None:
    claps, rewards = judges()
    ask = Judges(claps, rewards)
    prompts = read_prompts(_prompts_file(world[0]))
    first = measure("row0", world[1]["row0"], prompts, ask, seconds=SECONDS)
    calls = claps["clap_b"].calls
    again = measure("row0", world[1]["row0"], prompts, ask, seconds=SECONDS)
    assert claps["clap_b"].calls == calls == len(IDS), "the second measurement reads the cache"
    assert all(np.array_equal(first.scores[m], again.scores[m]) for m in first.scores)
    delivered = measure("row0", world[1]["row0"], prompts, ask, "delivered", seconds=SECONDS)
    assert not np.allclose(first.scores["reward_b"], delivered.scores["reward_b"]), "gain reaches the judges"


def test_processes_say_the_same(world, monkeypatch) -> None:
    prompts = read_prompts(_prompts_file(world[0]))
    monkeypatch.setattr("fluxlight.metrics.judging.WORTH_A_POOL", 5)
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
    prompts = read_prompts(_prompts_file(world[0]))
    loud, quiet = (measure(n, f, prompts, Judges(claps, rewards), seconds=SECONDS) for n, f in
                   (("row0", world[1]["row0"]), ("quiet", folder)))  # fmt: skip
    assert quiet.scores["reward_b"] == pytest.approx(loud.scores["reward_b"], abs=2e-4)
    assert loud.loudness - quiet.loudness == pytest.approx(np.full(len(IDS), 12.04), abs=0.05)


def _prompts_file(folder: Path) -> Path:
    path = folder / "prompts.csv"
    path.write_text("id,prompt\n" + "".join(f'{p["id"]},"{p["prompt"]}"\n' for p in PROMPTS))
    return path


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
    row = measure("row0", folder, read_prompts(_prompts_file(world[0])), Judges({"c": Strict()}), seconds=SECONDS)
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


def test_the_frame_is_printed_beside_the_numbers(world) -> None:
    run(world, world[0] / "out", seed=7)
    text = (world[0] / "out/table.md").read_text()
    assert "60 draws, seed 7" in text and re.search(r"mean LUFS: row0 -\d+\.\d, row1 -\d+\.\d\.", text)
    assert "30 reference clips" in text and "embedder fake-b" in text and "one embedding per clip" in text


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
    arguments = [str(folder), "--prompts", str(_prompts_file(world[0])), "--out", str(world[0] / "out")]
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


def test_bad_score_files_and_settings(world, tmp_path, capsys) -> None:
    prompts = str(_prompts_file(world[0]))
    file = tmp_path / "scores.json"
    for content, words in (
        ("{", "not valid JSON"),
        (json.dumps({i: {"a": 1.0} for i in IDS[1:]}), "1 prompts have no row"),
        (json.dumps({i: {"a": 1.0} for i in [*IDS, "x"]}), "belong to no prompt: x"),
        (json.dumps({i: {"a": 1.0 if i != "p04" else float("nan")} for i in IDS}), "not finite for p04"),
    ):
        file.write_text(content)
        assert main(["--scores", f"m={file}", "--prompts", prompts, "--out", str(tmp_path / "o")]) == 2
        assert words in capsys.readouterr().err
    file.write_text(json.dumps({i: {"a": 1.0, "b": 2.0} for i in IDS}))
    assert main(["--scores", f"m={file}", "--prompts", prompts, "--baseline", "z", "--out", str(tmp_path / "o")]) == 2
    assert "z is no system" in capsys.readouterr().err
    claps, rewards = judges()
    with pytest.raises(ValueError, match="evaluating CLAP first"):
        evaluate(world[1], PROMPTS, None, claps, rewards, {"clap_b"}, seconds=SECONDS)
    other = reference_from_clips(
        [np.random.default_rng(k).normal(size=RATE) for k in range(4)], RATE, FakeClap("other")
    )
    with pytest.raises(ValueError, match="embedded by other"):
        evaluate(world[1], PROMPTS, other, claps, rewards, seconds=SECONDS)
    with pytest.raises(ValueError, match="delivered"):
        run(world, tmp_path / "o", protocols=("delivered",))


def test_listening_page_holds_every_clip(world) -> None:
    out = world[0] / "page"
    result = run(world, out)
    scores = json.loads((out / "scores.json").read_text())
    page = listening_page(out / "index.html", PROMPTS, world[1], scores, result, "Rows <0> and 1")
    text = page.read_text()
    assert text.count("<audio") == text.count("class=pic") == 24 and text.count("<article") == 12
    assert "Rows &lt;0&gt; and 1" in text and "@@" not in text
    assert not re.search(r"(src|href)=[\"']?(https?:|//)", text), "nothing is fetched from elsewhere"
    for source in re.findall(r'src="([^"]+)"', text):
        assert (out / source).is_file(), source
    before = {p: p.stat().st_mtime_ns for p in out.glob("spectrograms/*/*.jpg")}
    listening_page(out / "index.html", PROMPTS, world[1], scores, result, copy=True)
    assert {p: p.stat().st_mtime_ns for p in out.glob("spectrograms/*/*.jpg")} == before and len(before) == 24
    assert (out / "audio" / "row1" / "p11.wav").is_file()


def test_extra_measures_of_a_row(world) -> None:
    _, systems, folder = world
    claps, rewards = judges()
    files = sorted(folder.iterdir())
    references = [
        reference_from_files(files, claps["clap_b"], "locked", "real", windows=windows) for windows in (False, True)
    ]
    again = render(world[0] / "row1 again", 5, 0.02)
    result = evaluate(
        systems, PROMPTS, references, claps, rewards, {"clap_a"}, world[0] / "out", seconds=SECONDS, resamples=40,
        repeats=3, extra=("fad_windows", "mad", "diversity"), seeds={"row1": [again]},
    )  # fmt: skip
    table = result["tables"]["locked"]
    row = table["systems"]["row1"]
    assert list(row["distances"]) == ["fad", "fad_windows", "kad", "mad", "diversity"] == list(table["floor"])
    # two windows of a clip of 1.5 s: the pooled FAD is another number on another scale
    assert table["reference_windows"]["n"] == 60 and table["reference_windows"]["windows"] == "10s/1s"
    assert row["distances"]["fad_windows"]["value"] != pytest.approx(row["distances"]["fad"]["value"], rel=0.01)
    assert row["distances"]["diversity"]["value"] == pytest.approx(row["diversity"])
    assert row["seeds"] == 2 and 0 < row["diversity_per_prompt"] < row["diversity"]
    assert "diversity_per_prompt" not in table["systems"]["row0"]
    assert {c["metric"] for c in table["comparisons"]} >= {"fad_windows", "mad", "diversity"}
    text = (world[0] / "out/table.md").read_text()
    assert "40 permutations cannot bring" in text and f"at least {20 * len(table['comparisons'])} are needed" in text
    assert "FAD 10s/1s ↓" in text and "| diversity |" in text and "60 windows of 30 reference clips" in text
    assert "(2 seeds)" in text and (world[0] / "out/plots/means_locked.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="fad_windows needs a reference made of windows"):
        run(world, world[0] / "none", extra=("fad_windows",))
    with pytest.raises(ValueError, match="no measure nonsense"):
        run(world, world[0] / "none", extra=("nonsense",))


def test_rows_are_compared_with_whom_one_asks(world) -> None:
    names = ["noise", "row0", "row1", "row2"]
    assert pairs_of(names, None) == [("row0", "noise"), ("row1", "row0"), ("row2", "row1")]
    assert pairs_of(names, "row0") == [("noise", "row0"), ("row1", "row0"), ("row2", "row0")]
    asked = [("row2", "noise"), ("row0", "noise"), ("row2", "noise"), ("noise", "row2"), ("row2", "row1")]
    assert pairs_of(names, asked) == [("row0", "noise"), ("row2", "noise"), ("row2", "row1")]
    with pytest.raises(ValueError, match="itself"):
        pairs_of(names, [("row0", "row0")])
    systems = {**world[1], "row2": render(world[0] / "row2", 6, 0.05)}
    against = [*pairs_of(list(systems), None), ("row2", "row0")]
    claps, rewards = judges()
    result = evaluate(systems, PROMPTS, None, claps, rewards, against=against, seconds=SECONDS)
    found = {(c["system"], c["against"]) for c in result["tables"]["locked"]["comparisons"]}
    assert found == {("row1", "row0"), ("row2", "row1"), ("row2", "row0")}


def test_a_stopped_evaluation_goes_on(world, monkeypatch) -> None:
    """A judge that fails half way leaves what it said; the second call asks for the rest only."""
    prompts = read_prompts(_prompts_file(world[0]))
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


def test_labels() -> None:
    names = ("clap_b", "reward_a", "fad", "reward", "clap", "fad_windows", "mad", "diversity")
    assert [label(n) for n in names] == [
        "CLAP-B", "reward A", "FAD", "reward", "CLAP", "FAD 10s/1s", "MAD", "diversity"]  # fmt: skip


def test_the_cost_of_an_evaluation_is_measured_from_outside(tmp_path, monkeypatch) -> None:
    """The real judges on two short clips, in a process and a cache of their own; nothing is left behind."""
    from fluxlight.metrics.cost import evaluation_seconds

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert evaluation_seconds(clips=2, seconds=1.2, jobs=1) > 0
    assert not list(tmp_path.glob("fluxlight-*"))
    with pytest.raises(RuntimeError, match="interval needs at least 2"):
        evaluation_seconds(clips=1, seconds=1.2, jobs=1)
