"""Rows as people have them: constant differences, equal prompts, few prompts, embeddings of any kind of number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_evaluation import IDS, PROMPTS, RATE, FakeClap, judges, render, run
from small_evaluation import world as world

from fluxlight.cli import main
from fluxlight.clips.resample import resample
from fluxlight.evaluation.compare import own_vs_shuffled
from fluxlight.evaluation.measure import Judges, PerClip, measure
from fluxlight.files import append_jsonl, read_json, read_jsonl, write_json, write_jsonl
from fluxlight.metrics import FrechetAudioDistance
from fluxlight.metrics.clap_score import clap_scores, retrieval
from fluxlight.metrics.diversity import diversity
from fluxlight.metrics.frechet import fad, fad_to
from fluxlight.metrics.kad import kad
from fluxlight.metrics.mad import mad
from fluxlight.metrics.reference import Reference
from fluxlight.metrics.statistics import paired, spearman, t_interval
from fluxlight.metrics.windows import WindowGram
from fluxlight.prompts import Prompt


def strict(path: Path) -> Any:
    """JSON as other readers take it: without NaN and Infinity."""
    return json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} in {path.name}"))


@pytest.mark.parametrize("step", [1.0, 0.05, -1e-6, 1e6])
def test_a_constant_difference_has_no_t_whatever_its_rounding(step: float):
    base = np.array([0.1, 0.15, 0.2, 0.25, 0.3])
    found = paired(base + step, base)
    assert found.t is None and found.effect is None and found.p_t == 2**-4
    assert found.difference == pytest.approx(step) and found.low == found.high == found.difference
    assert (found.wins, found.losses) == ((5, 0) if step > 0 else (0, 5))


def test_rounding_is_no_difference_but_a_small_difference_is():
    base = np.random.default_rng(0).normal(size=20)
    same = paired(base * 3 / 3 + 1e-17, base)
    assert (same.t, same.p_t, same.ties, same.difference) == (0, 1, 20, 0)
    small = paired(base + 1e-9 * (1 + base**2), base)
    assert small.t is not None and small.t > 3 and small.wins == 20
    assert t_interval(np.full(7, 0.1)).sd == 0


@pytest.mark.parametrize("size", [1.0, 1e-4])
def test_equal_prompts_say_nothing_of_the_own_one(size: float):
    rng = np.random.default_rng(1)
    audio, text = rng.normal(size=(9, 64)), np.repeat(rng.normal(size=(1, 64)), 9, axis=0)
    text -= (1 - size) * (text[0] @ audio.mean(0)) / (audio.mean(0) @ audio.mean(0)) * audio.mean(0)
    prompts = [Prompt(str(k), "the same") for k in range(9)]
    row = PerClip("a", prompts, {"clap": clap_scores(audio, text)}, {"clap": audio}, {"clap": text})
    found = own_vs_shuffled(row, "clap")
    assert (found["difference"], found["t"], found["p_t"], found["ties"]) == (0, 0, 1, 9)


def test_a_table_of_constant_differences_is_json_and_prints_a_dash(tmp_path: Path, capsys):
    ids = [f"p{k}" for k in range(5)]
    write_json(tmp_path / "prompts.json", [{"id": i, "prompt": i} for i in ids])
    write_json(tmp_path / "mos.json", {i: {"a": 1.0 + k, "b": 2.0 + k} for k, i in enumerate(ids)})
    flags = ["--prompts", str(tmp_path / "prompts.json"), "--out", str(tmp_path / "out")]
    assert main(["evaluate", "--scores", f"mos={tmp_path / 'mos.json'}", *flags]) == 0
    [said] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| b | a |")]
    assert "| - | 0.062 | 0.062 | 0.062 | 5/5 | - |" in said and "inf" not in said
    [found] = strict(tmp_path / "out/table.json")["tables"]["scores"]["comparisons"]
    assert found["t"] is None and found["effect"] is None


def test_every_json_that_is_written_is_json(tmp_path: Path):
    odd = {"a": [1.5, float("nan"), (float("inf"), "x")], "b": {"c": -float("inf"), "d": np.float64("nan")}}
    plain = {"a": [1.5, None, [None, "x"]], "b": {"c": None, "d": None}}
    write_json(tmp_path / "a.json", odd)
    write_jsonl(tmp_path / "b.jsonl", [odd])
    append_jsonl(tmp_path / "b.jsonl", [odd])
    assert strict(tmp_path / "a.json") == read_json(tmp_path / "a.json") == plain
    assert read_jsonl(tmp_path / "b.jsonl") == [plain, plain] and "NaN" not in (tmp_path / "b.jsonl").read_text()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_embeddings_of_any_kind_of_number_are_measured(kind: torch.dtype):
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 6, generator=draw).to(kind).requires_grad_() for n in (20, 30))
    plain_x, plain_y = (value.detach().double().numpy() for value in (x, y))
    for distance in (fad, kad, mad):
        assert distance(x, y) == distance(plain_x, plain_y)
    assert diversity(x) == diversity(plain_x) and retrieval(x, x, 1) == 1
    assert np.array_equal(clap_scores(x, y[:20]), clap_scores(plain_x, plain_y[:20]))
    kept = Reference.from_embeddings(y, "e-1", RATE)
    assert fad_to(x, torch.as_tensor(kept.mean).to(kind), kept.cov) == pytest.approx(fad(x, y), rel=0.05)
    windows = Reference.from_windows([y[:10], y[10:]], "e-1", RATE)
    assert WindowGram(list(x.split(5)), windows.mean, windows.cov).distance() == pytest.approx(fad(x, y))
    metric = FrechetAudioDistance(kept)
    metric.update(embeddings=x)
    assert float(metric.compute()) == pytest.approx(fad(x, y))
    assert paired(x[:, 0], x[:, 1]) == paired(plain_x[:, 0], plain_x[:, 1])
    assert paired(list(x[:, 0]), x[:, 1]) == paired(plain_x[:, 0], plain_x[:, 1])
    assert spearman(x[:, 0], x[:, 1]) == spearman(plain_x[:, 0], plain_x[:, 1])


def test_judges_that_answer_in_bfloat16_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Half(FakeClap):
        def embed_audio(self, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
            return super().embed_audio(audio, sample_rate).bfloat16()

        def embed_text(self, texts: list[str]) -> torch.Tensor:
            return super().embed_text(texts).bfloat16()

    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path / "cache"))
    render(tmp_path / "a", 1, 0.1, ["x", "y"])
    prompts = [Prompt("x", "tune"), Prompt("y", "drum")]
    row = measure("a", tmp_path / "a", prompts, Judges({"clap": Half()}, windows=("clap",)))
    assert row.embeddings["clap"].dtype == np.float64 and row.windows["clap"][0].shape == (2, 8)


def few(world, *flags: str, prompts: int = 2) -> list[str]:
    """The command on the first prompts alone."""
    folder, systems, reference = world
    write_json(folder / "few.json", PROMPTS[:prompts])
    for path in systems.values():
        for clip in list(path.iterdir()):
            if clip.stem not in IDS[:prompts]:
                clip.unlink()
    named = [word for name, path in systems.items() for word in ("--system", f"{name}={path}")]
    return ["evaluate", *named, "--prompts", str(folder / "few.json"), "--out", str(folder / "out"), "--seconds", "0",
            "--no-page", *flags]  # fmt: skip


def test_too_few_prompts_are_one_line_before_any_work(world, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fluxlight.evaluation.judges.load_judges", lambda name: pytest.fail("judges were loaded"))
    reference = ["--reference", str(world[2])]
    assert main(few(world, *reference)) == 2
    said = capsys.readouterr().err
    assert "2 prompts, FAD, KAD and the like with their interval need at least 3: give more, or leave the" in said
    assert main(few(world, prompts=1)) == 2
    assert "1 prompts, an interval needs at least 2: give more" in capsys.readouterr().err


@pytest.mark.parametrize(("prompts", "with_reference"), [(2, False), (3, True)])
def test_the_fewest_prompts_make_a_table(world, monkeypatch, capsys, prompts: int, with_reference: bool):
    claps, rewards = judges()
    monkeypatch.setattr("fluxlight.evaluation.judges.load_judges", lambda name: Judges(claps, rewards))
    reference = ["--reference", str(world[2])] if with_reference else []
    assert main(few(world, *reference, "--resamples", "2", prompts=prompts)) == 0
    assert strict(world[0] / "out/table.json")["frame"]["n"] == prompts


@pytest.mark.parametrize(
    ("verb", "flag", "value"),
    [
        ("evaluate", "--resamples", "0"), ("evaluate", "--resamples", "1"), ("evaluate", "--jobs", "0"),
        ("evaluate", "--jobs", "-2"), ("evaluate", "--jobs", "two"), ("evaluate", "--seed", "-1"),
        ("evaluate", "--seconds", "-1"), ("evaluate", "--seconds", "nan"), ("ladders", "--resamples", "0"),
        ("ladders", "--jobs", "0"), ("error-rates", "--jobs", "0"), ("error-rates", "--resamples", "1"),
        ("error-rates", "--trials", "0"), ("error-rates", "--n", "2"), ("postprocess", "--jobs", "0"),
        ("postprocess", "--batch", "0"), ("postprocess", "--lufs", "nan"), ("postprocess", "--lufs", "3"),
        ("postprocess", "--passes", "-1"),
    ],
)  # fmt: skip
def test_impossible_numbers_are_one_line_that_names_the_flag(tmp_path: Path, capsys, verb: str, flag: str, value: str):
    words = {"evaluate": ["--prompts", "p", "--out", "o"], "postprocess": ["in", "out", "--passes", "0"]}
    assert main([verb, *words.get(verb, ["--out", "o"]), f"{flag}={value}"]) == 2
    said = capsys.readouterr().err
    assert flag.strip("-") in said and value in said and len(said.strip().splitlines()) == 1


def test_the_library_refuses_them_too(world):
    for settings, said in (({"resamples": 0}, "resamples is 0"), ({"repeats": 0}, "repeats 0")):
        with pytest.raises(ValueError, match=said):
            run(world, world[0] / "t", **settings)


def test_a_judge_that_never_varies_agrees_with_nobody():
    values = np.random.default_rng(0).normal(size=12)
    assert spearman(values, 0.3 + 1e-17 * values) == spearman(values, np.full(12, 0.1) * 3 / 3) == 0
    assert spearman(values, values * 1e-9 + 5e-3) == pytest.approx(1)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_audio_of_few_bits_is_resampled(kind: torch.dtype):
    wave = torch.sin(torch.arange(4800) / 10)[None]
    assert (resample(wave.to(kind), 48000, 44100) - resample(wave, 48000, 44100)).abs().max() < 0.02


def test_two_reference_folders_are_refused(world, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr("fluxlight.evaluation.judges.load_judges", lambda name: Judges(*judges()))
    assert main(few(world, *["--reference", str(world[2])] * 2, prompts=3)) == 2
    assert "are 2 folders: give one that holds all" in capsys.readouterr().err
