"""Rows as people have them: constant differences, equal prompts, few prompts, embeddings of any kind of number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fluxlight.cli import main
from fluxlight.evaluation.compare import own_vs_shuffled
from fluxlight.evaluation.measure import PerClip
from fluxlight.files import append_jsonl, read_json, read_jsonl, write_json, write_jsonl
from fluxlight.metrics.clap_score import clap_scores
from fluxlight.metrics.statistics import paired, t_interval
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
