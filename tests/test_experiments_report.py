"""Analyses, verdicts, the page and its twin, the claims: from arrays and folders to what a reader sees."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import claims
from experiments.analysis import components, hierarchical, sd_interval, seed_study, slopes
from experiments.blocks import Forest, Line
from experiments.claims import CANNOT, NOT, REPRODUCED, effect, exceeds, null, read_claims
from experiments.page import forest, write_report
from experiments.sweep_table import rows_of
from fluxlight.files import read_json, write_json
from fluxlight.metrics.clips import Prompt
from fluxlight.metrics.evaluate import summarise, write_result
from fluxlight.metrics.measure import PerClip
from fluxlight.metrics.reference import Reference

N = 12


# -- analyses --------------------------------------------------------------------------------------------------


def test_variance_components_find_what_was_put_in():
    rng = np.random.default_rng(0)
    seed, prompt, rest = 0.3, 1.0, 0.5
    found = [
        components(
            2 + seed * rng.normal(size=(6, 1)) + prompt * rng.normal(size=(1, 40)) + rest * rng.normal(size=(6, 40))
        )
        for _ in range(200)
    ]
    means = {key: np.mean([f[key] for f in found]) for key in ("seed", "prompt", "rest")}
    assert means["seed"] == pytest.approx(seed**2, rel=0.12)
    assert means["prompt"] == pytest.approx(prompt**2, rel=0.05)
    assert means["rest"] == pytest.approx(rest**2, rel=0.03)
    # without an effect of seeds, p is uniform: 5 % of the tests are below 0.05
    null_p = [components(rng.normal(size=(1, 20)) + rng.normal(size=(4, 20)))["p"] for _ in range(400)]
    assert 0.02 < np.mean(np.array(null_p) < 0.05) < 0.09
    with pytest.raises(ValueError, match="at least 2 seeds"):
        components(np.zeros((1, 5)))


def test_the_interval_of_a_standard_deviation_covers_it():
    rng = np.random.default_rng(1)
    found = [sd_interval(rng.normal(scale=2.0, size=5).tolist()) for _ in range(400)]
    assert 0.92 < np.mean([f["low"] <= 2.0 <= f["high"] for f in found]) < 0.98
    with pytest.raises(ValueError, match="at least 2"):
        sd_interval([1.0])


def test_the_hierarchical_interval_holds_seeds_and_prompts():
    rng = np.random.default_rng(2)

    def draw(k: int, spread: float) -> np.ndarray:
        return 1.0 + spread * rng.normal(size=(k, 1)) + rng.normal(size=(1, 50)) + 0.3 * rng.normal(size=(k, 50))

    calm, wild = hierarchical(draw(6, 0.0), seed=1), hierarchical(draw(6, 1.0), seed=1)
    assert wild["high"] - wild["low"] > 1.5 * (calm["high"] - calm["low"])
    covered = [f["low"] <= 1.0 <= f["high"] for f in (hierarchical(draw(8, 0.3), resamples=400) for _ in range(150))]
    assert 0.85 < np.mean(covered) <= 1
    # a difference drops what prompts and seeds have in common
    y = draw(4, 1.0)
    change = hierarchical(y + 0.25, y)
    assert change["mean"] == pytest.approx(0.25) and change["high"] - change["low"] < 1e-9
    assert hierarchical(y, seed=3) == hierarchical(y, seed=3)
    with pytest.raises(ValueError, match="same seeds and prompts"):
        hierarchical(y, y[:2])


# -- verdicts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "low", "high", "sign", "smallest", "size", "verdict"),
    [
        (-0.03, -0.05, -0.01, -1, 0.02, 0.025, REPRODUCED),
        (0.03, 0.01, 0.05, -1, 0.02, 0.025, NOT),
        (-0.01, -0.03, 0.01, -1, 0.02, 0.025, NOT),  # would have been seen
        (-0.01, -0.05, 0.03, -1, 0.06, 0.025, CANNOT),
        (0.01, -0.05, 0.07, 1, 0.01, None, CANNOT),  # no size to have seen
    ],
)
def test_the_rule_of_an_effect(value, low, high, sign, smallest, size, verdict):
    assert effect(value, low, high, sign, smallest, size) == verdict


def test_the_rules_of_a_null_and_of_a_spread():
    assert [null(-0.01, 0.01, 0.02), null(-0.01, 0.03, 0.02), null(0.03, 0.05, 0.02)] == [REPRODUCED, CANNOT, NOT]
    assert [exceeds(0.01, 0.03, 0.005), exceeds(0.01, 0.03, 0.02), exceeds(0.01, 0.03, 0.04)] == [
        REPRODUCED,
        CANNOT,
        NOT,
    ]


def test_every_claim_names_cells_that_are_there_and_a_source():
    found = read_claims()
    assert len(found) >= 15
    for claim in found:
        assert claim["published"] and re.match(r"FACTS \d|our question", claim["source"]), claim["claim"]
        wanted = {
            "effect": {"sign", "where"},
            "null": {"within", "where"},
            "exceeds": {"where", "than"},
            "none": {"reason"},
        }
        assert wanted[claim["kind"]] <= set(claim), claim["claim"]


# -- a folder of experiments -----------------------------------------------------------------------------------


def system(name: str, shift: float, score: float | None = None) -> PerClip:
    """A system whose clips are those of a common draw, moved."""
    rng = np.random.default_rng(5)
    base, text = rng.normal(size=(N, 6)), rng.normal(size=(N, 6))
    noise = np.random.default_rng(sum(map(ord, name))).normal(size=N)
    scores = {m: base[:, 0] + shift + 0.05 * noise for m in ("clap_b", "reward_b", "reward_a")}
    prompts = [Prompt(f"p{k}", f"a tune <{k}>") for k in range(N)]
    info = {"checkpoint": "abc"} | ({"score": score} if score is not None else {})
    return PerClip(name, prompts, scores, {"clap_b": base + shift}, {"clap_b": text}, info=info)


ENVIRONMENT = {"versions": {"torch": "2.13"}, "revision": "0123456789ab", "python": "3.11", "cores": 2}


def write_experiment(out: Path, name: str, rows: list[PerClip], pairs: list[tuple[str, str]], **more: Any) -> None:
    """An experiment as `experiments.judge` leaves it."""
    reference = Reference.from_embeddings(np.random.default_rng(6).normal(size=(40, 6)), "judge-1", 44100, "reference")
    result = summarise({"locked": (rows, reference)}, None, ["reward_a"], pairs, 20, 5, extra=["diversity"])
    write_result(out / name, result, rows, plots=False)
    cells = {row.system: {"state": "done", "work": "x-1", "seconds": 30.0} for row in rows}
    said = {
        "experiment": name, "title": f"Title of {name}", "question": "Does it <move>?", "analysis": "", "clips": None,
        "loudness": ["locked"], "command": f"python -m experiments.run {name} --from laptop --out DIR", "seconds": 90.0,
        "source": {"chain": "laptop", "seed": 42, "updates": {"row1": 10}, "data": "d", "minutes": 5.0},
        "cells": cells, "groups": {"": list(cells)}, "against": {}, "deltas": {}, "date": "2026-11-23",
        "environment": ENVIRONMENT, "audio": {rows[0].system: "audio/x.mp3"},
        "first_prompt": {"id": "p0", "prompt": "a <tune>"},
    }  # fmt: skip
    write_json(out / name / "result.json", said | more)
    if name != "score_sweep":  # a clip that was not kept has no player
        (out / name / "audio").mkdir()
        (out / name / "audio" / "x.mp3").write_bytes(b"sound")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    titles = ["0 baseline", "1 score-cond. SFT", "2 expert iteration", "3 cross-load v2", "4 CRPO"]
    rows = [system(title, 0.2 * k) for k, title in enumerate(titles)]
    pairs = [(title, titles[0]) for title in titles[1:]]
    pairs += [(b, a) for a, b in zip(titles[1:], titles[2:], strict=False)]
    write_experiment(tmp_path, "decomposition", rows, pairs)
    cells = [f"row 4 noise {s}" for s in (42, 55, 1042)]
    noise = [system(name, 0.01 * k) for k, name in enumerate(cells)]
    write_experiment(tmp_path, "seeds", noise, [], groups={"row 4 noise": cells}, analysis="components")
    group = {"row 4": ["row 4, s at q0.01", "row 4, s at q0.99"]}
    sweep = [system(name, 0.3 * k, score=1.5 * k) for k, name in enumerate(group["row 4"])]
    write_experiment(tmp_path, "score_sweep", sweep, [], groups=group, analysis="slope")
    for name, made in (("seeds", seed_study), ("score_sweep", slopes)):
        result = read_json(tmp_path / name / "result.json")
        table = read_json(tmp_path / name / "table.json")["tables"]["locked"]
        scores = read_json(tmp_path / name / "scores.json")
        write_json(
            tmp_path / name / "result.json", result | {result["analysis"]: made(table, scores, result["groups"])}
        )
    lost = read_json(tmp_path / "seeds" / "result.json")
    lost["cells"]["row 1 training 43"] = {"state": "failed", "why": "train/loss is nan | at update 3"}
    write_json(tmp_path / "seeds" / "result.json", lost)
    write_report(tmp_path)
    return tmp_path


class Balanced(HTMLParser):
    """Refuses a page whose tags do not close in order."""

    OPEN = {"meta", "line"}

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.counts: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in self.OPEN:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack and self.stack.pop() == tag, f"</{tag}> closes something else"


def test_the_page_shows_every_experiment_and_says_what_is_missing(folder: Path):
    text = (folder / "index.html").read_text()
    parser = Balanced()
    parser.feed(text.replace("/>", ">"))
    assert parser.stack == [] and parser.counts["section"] == 3
    assert parser.counts["audio"] == 2 and 'src="seeds/audio/x.mp3"' in text
    # five rows against the first, three stages: one forest plot a measure (6), and one a slope (3)
    assert parser.counts["svg"] == 6 + 3
    assert "Does it &lt;move&gt;?" in text and "<move>" not in text
    assert "train/loss is nan | at update 3" in text
    assert "real against real" in text and "†" in text
    assert "-0.0000" not in text


def test_the_twin_holds_the_same_numbers(folder: Path):
    page, twin = (folder / "index.html").read_text(), (folder / "README.md").read_text()
    numbers = re.findall(r"[+-]\d\.\d{4}", twin)
    assert len(numbers) > 30 and all(number in page for number in numbers)
    table = read_json(folder / "decomposition" / "table.json")["tables"]["locked"]
    c = next(c for c in table["comparisons"] if c["metric"] == "reward_b")
    assert f"{c['difference']:+.4f}" in twin
    # a cell of a Markdown table does not end at a bar in an error message
    assert "nan \\| at update 3" in twin


def test_a_forest_plot_is_drawn_to_scale():
    svg = forest(Forest("d", [Line("a", 1.0, 0.0, 2.0, True), Line("b", -1.0, -2.0, 0.0, False)]))
    points = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg)]
    zero = float(re.search(r'<line x1="([\d.]+)"', svg)[1])  # type: ignore[index]
    assert points[0] - zero == pytest.approx(zero - points[1], abs=0.2) and points[0] > zero
    assert svg.count('fill="#fff"') == 1
    # nothing at all is a plot too
    assert "circle" in forest(Forest("d", [Line("a", 0.0, 0.0, 0.0, False)]))


def test_the_claims_page_is_written_from_the_folders_alone(folder: Path, tmp_path: Path):
    assert claims.main([str(folder), "--out", str(tmp_path / "README.md")]) == 0
    text = (tmp_path / "README.md").read_text()
    rows = [
        line for line in text.split("## Claims")[1].split("## What is there")[0].splitlines() if line.startswith("| ")
    ]
    by_claim = {row.split(" | ")[0].strip("| "): row for row in rows[2:]}
    assert len(by_claim) == len(read_claims())
    # every system is 0.2 higher than the one before
    assert "**reproduced**" in by_claim["Expert iteration improves the reward"]
    assert "**not reproduced**" in by_claim["CRPO leaves the reward where it was"]
    assert "**not run yet**" in by_claim["v2 weights run through v1 collapse in reward"]
    assert "**not testable here**" in by_claim["Which of the five heads is best"]
    assert (
        "slope of reward B +0.1975"
        in by_claim["After the whole chain the reward no longer follows the score asked for"]
    )
    assert "over 3 seeds" in by_claim["Another noise seed moves FAD more than CRPO does"]
    assert "2026-11-23, 0123456789ab" in by_claim["Expert iteration improves FAD"]
    assert "torch 2.13" in text


def test_rows_of_a_sweep_hold_their_seeds():
    rows = [
        system(f"{head}, seed {s}", shift + 0.02 * s) for head, shift in (("A", 0.0), ("B", 0.5)) for s in (0, 1, 2)
    ]
    result = summarise({"locked": (rows, None)}, None, [], [], 20)
    from fluxlight.metrics.evaluate import per_clip_scores

    table, scores = result["tables"]["locked"], per_clip_scores(rows)
    groups = {head: [r.system for r in rows if r.system.startswith(head)] for head in "AB"}
    found = rows_of(table["systems"], scores, groups, ["reward_b"], "A")
    change = found["B"]["differences"]["reward_b"]
    assert change["mean"] == pytest.approx(0.5, abs=0.05) and change["low"] > 0.4 and change["seeds"] == 3
    assert found["A"]["differences"] == {}
