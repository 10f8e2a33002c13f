"""Every result is valid JSON of a known layout: what the project ships, and what the verbs write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from results_reader import ROOT, SCHEMAS, hold, strict
from small_evaluation import IDS, PROMPTS, judges, run, world  # noqa: F401

from experiments.reports.page import collect
from fluxlight.clips.faults import CANCEL
from fluxlight.evaluation.judging import Judges
from fluxlight.evaluation.measure import PerClip
from fluxlight.files import write_json
from fluxlight.prompts import Prompt
from fluxlight.report.judges import CARDS, card_for, card_lines, hears
from fluxlight.validity.card import card_of

RESULTS = ROOT / "experiments" / "results"
SHIPPED = [*sorted(RESULTS.glob("*.json")), *sorted(CARDS.glob("*.json"))]


def test_every_schema_is_one() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert {"evaluation", "report_card", "ladders", "error_rates", "experiment", "claims", "chain"} == set(SCHEMAS)
    for path in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(strict(path))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_result_is_read_and_has_its_page(path: Path) -> None:
    assert hold(strict(path)) == {"claims.json": "claims"}.get(path.name, kind_of_folder(path))
    page = ROOT / "experiments" / "README.md" if path.stem == "claims" else path.with_suffix(".md")
    assert path.parent == CARDS or page.is_file()


def kind_of_folder(path: Path) -> str:
    from results_reader import kind_of

    return "report_card" if path.parent == CARDS else kind_of(strict(path))


def test_a_broken_result_is_found(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    (tmp_path / "x.json").write_text('{"version": 2, "t": Infinity}')
    with pytest.raises(ValueError, match="Infinity"):
        strict(tmp_path / "x.json")
    with pytest.raises(jsonschema.ValidationError):
        hold({"version": 2})


def test_a_table_keeps_to_its_schema(world, tmp_path: Path) -> None:  # noqa: F811
    run(world, tmp_path / "out", extra=("diversity",), margins={"fad": 0.5}, half=None, resamples=20)
    assert hold(strict(tmp_path / "out" / "table.json")) == "evaluation"
    text = (tmp_path / "out" / "table.md").read_text()
    assert "No report card of these judges is there" in text and "one noise seed and one training seed a row" in text
    assert "0.5: " in text and CANCEL not in text


def test_a_card_says_what_its_judge_hears_and_tables_find_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FLUXLIGHT_CARDS", str(tmp_path))
    claps, rewards = judges()
    rng = np.random.default_rng(0)
    n = 40

    def row(name: str, drops: dict[str, float]) -> PerClip:
        scores = {k: base[k] - drops.get(k, 0.0) for k in base}
        return PerClip(name, [Prompt(str(k), "x") for k in range(n)], scores)

    quality = rng.normal(size=n)
    base = {k: quality + 0.2 * rng.normal(size=n) for k in ("clap_b", "clap_a", "reward_a", "reward_b")}
    noise = {"clap_b": 0.0, "clap_a": 1.0, "reward_a": 1.0, "reward_b": -1.0}
    rows = {
        "white_noise": [row("clean", {}), row("1", {}), row("2", {}), row("3", {}), row("4", {}), row("5", noise)],
        "wrong_captions": [row("clean", {}), *(row(str(k), noise if k == 5 else {}) for k in range(1, 6))],
    }
    card = card_of(rows, Judges(claps, rewards), "locked", "clips of a test")
    write_json(tmp_path / "fakes.json", card)
    assert hold(strict(tmp_path / "fakes.json")) == "report_card"
    planted = {name: judge["planted"]["white_noise"] for name, judge in card["judges"].items()}
    assert {name: hears(steps) for name, steps in planted.items()} == {
        "clap_b": "no", "clap_a": "yes", "reward_a": "yes", "reward_b": "reversed"}  # fmt: skip
    # nothing moved: every pair is a tie, which is one half
    assert planted["clap_a"][0]["accuracy"] == 0.5 and planted["clap_a"][-1]["accuracy"] == 1.0
    assert len(card["judges"]["clap_a"]["planted"]["wrong_captions"]) == 1, "captions: all of them another's"
    within = {tuple(pair["judges"]): pair["within"] for pair in card["agreement"]}
    assert within["clap_b", "clap_a"] > 0.8 and set(within) == {("clap_b", "clap_a"), ("reward_a", "reward_b")}
    found = card_for({"mine": "fake-b", "other": "unknown"})
    assert found is not None and list(found["judges"]) == ["mine"] and found["agreement"] == []
    text = "\n".join(card_lines(found, {"mine": "fake-b", "other": "unknown"}))
    assert "| mine | 0.50 to 0.50 |" in text and "Not on this card: other" in text and "centre 10 s" in text
    assert card_for({"mine": "unknown"}) is None


def test_a_table_of_an_earlier_layout_is_said_and_not_read(tmp_path: Path) -> None:
    said = {"experiment": "x", "question": "Does it?", "command": "python -m experiments.run x", "cells": {}}
    write_json(tmp_path / "x" / "result.json", said)
    write_json(tmp_path / "x" / "table.json", {"version": 1, "tables": {}})
    ((result, evaluation),) = collect(tmp_path)
    assert evaluation is None and "earlier layout" in result["question"] and said["command"] in result["question"]
