"""Verdicts, the page and its twin, the claims: from arrays and folders to what a reader sees."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from paper_chain import make_chain
from results_reader import hold, strict

from experiments import claims, smoke
from experiments.cells.analysis import seed_study, slopes
from experiments.cells.experiment import read_experiment
from experiments.cells.judge import Judged, enough
from experiments.cells.plan import Planner
from experiments.cells.source import Source
from experiments.claims import read_claims, write_all
from experiments.reports.blocks import Forest, Line, blocks
from experiments.reports.page import BLUE, LEGEND, forest, forest_figure
from experiments.reports.twin import write_twins
from experiments.sweep_table import rows_of
from fluxlight.evaluation.evaluate import summarise, write_result
from fluxlight.evaluation.measure import PerClip
from fluxlight.files import read_json, write_json
from fluxlight.metrics.reference import Reference
from fluxlight.prompts import Prompt

N = 12


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
    """An experiment as `experiments.cells.judge` leaves it."""
    reference = Reference.from_embeddings(np.random.default_rng(6).normal(size=(40, 6)), "judge-1", 44100, "reference")
    result = summarise({"locked": (rows, reference)}, None, ["reward_a"], pairs, 20, 5, extra=["diversity"], draws=60)
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
def folder(made_once: Path, tmp_path: Path) -> Path:
    shutil.copytree(made_once, tmp_path / "experiments")
    return tmp_path / "experiments"


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("made")
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
    lost["cells"]["row 1 training 43"] = {"state": "failed", "why": "train/loss is nan | at update 3: /srv/me/x.log"}
    write_json(tmp_path / "seeds" / "result.json", lost)
    write_all(tmp_path)
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

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.stack and self.stack.pop() == tag, f"</{tag}> closes something else"


def test_the_page_shows_every_experiment_and_says_what_is_missing(folder: Path):
    text = (folder / "index.html").read_text()
    parser = Balanced()
    parser.feed(text)
    assert parser.stack == [] and parser.counts["section"] == 3
    assert text.index("Claims of the paper") < text.index("<section") and "not testable here" in text
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
    assert "nan \\| at update 3: …/x.log" in twin and "/srv/" not in twin + page


def test_a_forest_plot_is_drawn_to_scale():
    plot = Forest("d < e", [Line("a", 1.0, 0.0, 2.0, True), Line("b & c", -1.0, -2.0, 0.0, False)])
    zero, *drawn = forest_figure(plot).axes[0].lines
    assert list(zero.get_xdata()) == [0, 0]
    assert [list(line.get_xdata()) for line in drawn] == [[0.0, 2.0], [1.0], [-2.0, 0.0], [-1.0]]
    assert [point.get_markerfacecolor() for point in drawn[1::2]] == [BLUE, "white"]
    svg = forest(plot)
    ElementTree.fromstring(svg)
    assert 'aria-label="d &lt; e"' in svg and "b &amp; c" in svg and forest(plot) == svg
    # nothing at all is a plot too
    assert "<svg" in forest(Forest("d", [Line("a", 0.0, 0.0, 0.0, False)]))


def test_the_claims_page_is_written_from_the_folders_alone(folder: Path, tmp_path: Path):
    assert claims.main([str(folder), "--out", str(tmp_path / "README.md")]) == 0
    text = (tmp_path / "README.md").read_text()
    part = text.split("## Claims")[1].split("## What is there")[0]
    rows = [line for line in part.splitlines() if line.startswith("| ")]
    by_claim = {row.split(" | ")[0].strip("| "): row for row in rows[2:]}
    assert len(by_claim) == len(read_claims())
    # every system is 0.2 higher than the one before
    assert "**reproduced**" in by_claim["Expert iteration improves the reward"]
    assert "**not reproduced**" in by_claim["CRPO leaves the reward where it was"]
    assert "margin of 0.05, though it excludes 0" in by_claim["CRPO leaves the reward where it was"]
    assert "**not run yet**" in by_claim["v2 weights run through v1 collapse in reward"]
    assert "**not testable here**" in by_claim["Which of the five heads is best"]
    slope = by_claim["After the whole chain the reward no longer follows the score asked for"]
    assert "slope of reward B +0.1975" in slope
    assert "over 3 seeds" in by_claim["Another noise seed moves FAD more than CRPO does"]
    assert "2026-11-23, 0123456789ab" in by_claim["Expert iteration improves FAD"]
    assert "torch 2.13" in text and "12 prompts x 1 noise seed x 1 training seed" in text
    data = strict(tmp_path / "results" / "claims.json")
    assert hold(data) == "claims" and len(data["claims"]) == len(read_claims())
    verdicts = {claim["claim"]: claim["verdict"] for claim in data["claims"]}
    assert all(f"**{verdict}**" in by_claim[claim] for claim, verdict in verdicts.items())
    # the folder's own report has the same verdicts: no second step is needed to have them
    beside = (folder / "claims.md").read_text()
    assert all(row in beside for row in rows)


def test_the_claims_page_says_what_was_changed_what_it_cost_and_what_is_lost(folder: Path, tmp_path: Path):
    said = read_json(folder / "seeds" / "result.json")
    said |= {
        "overrides": {"trainer.max_steps": 9},
        "command": "python -m experiments.run seeds --set trainer.max_steps=9",
    }
    write_json(folder / "seeds" / "result.json", said)
    said = read_json(folder / "decomposition" / "result.json")
    write_json(folder / "decomposition" / "result.json", said | {"seconds": 0.0})
    assert claims.main([str(folder), "--out", str(tmp_path / "project" / "README.md")]) == 0
    text = (tmp_path / "project" / "README.md").read_text()
    (row,) = (line for line in text.splitlines() if line.startswith("| Another noise seed"))
    assert "`python -m experiments.run seeds --set trainer.max_steps=9`" in row
    assert "laptop, all prompts, trainings with trainer.max_steps=9" in row and "1.5 min on 2 cores" in row
    (row,) = (line for line in text.splitlines() if line.startswith("| Expert iteration improves FAD"))
    assert "none beyond the chain's 5 min" in row
    assert "[`seeds`](results/seeds.md)" in text and "not there: row 1 training 43" in text
    lines = [line for line in text.splitlines() if "not run yet" in line]
    assert any("`guidance`" in line for line in lines) and any("`heads`" in line for line in lines)


def test_a_folder_without_results_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for out in (tmp_path, tmp_path / "none"):
        assert claims.main([str(out)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "run an experiment first" in line
    assert not list(tmp_path.iterdir())


def test_short_reports_hold_the_tables_and_small_plots_and_no_audio(folder: Path, tmp_path: Path):
    made = write_twins(folder, tmp_path / "results")
    assert [path.stem for path in made] == ["decomposition", "score_sweep", "seeds"]
    for path in made:
        text = path.read_text()
        assert path.stat().st_size < 300_000 and ".mp3" not in text and LEGEND in text
        assert hold(strict(path.with_suffix(".json"))) == "experiment"
        for name in re.findall(r"\]\(([^)]+\.png)\)", text):
            assert (tmp_path / "results" / name).read_bytes()[:4] == b"\x89PNG"
            assert (tmp_path / "results" / name).stat().st_size < 300_000
    text, twin = made[0].read_text(), (folder / "README.md").read_text()
    assert text.count(".png") == 1
    numbers = re.findall(r"[+-]\d\.\d{4}", text)
    assert len(numbers) > 30 and all(number in twin for number in numbers)


def test_too_few_permutations_are_said(folder: Path):
    evaluation = read_json(folder / "decomposition" / "table.json")
    result = read_json(folder / "decomposition" / "result.json")

    def warned() -> bool:
        return any("however large" in getattr(block, "text", "") for block in blocks(result, evaluation))

    assert warned()  # 20 permutations, 42 comparisons
    for c in evaluation["tables"]["locked"]["comparisons"]:
        c["resamples"] = 10_000
    assert not warned()


@pytest.mark.parametrize("pairs", range(1, 40))
def test_permutations_are_enough_for_holm_and_never_few(pairs: int):
    drawn = enough(pairs)
    assert drawn >= 1000 and 1 / (drawn + 1) < 0.05 / (7 * pairs)


def test_a_result_that_is_there_is_kept_with_the_command_of_today(tmp_path: Path):
    chain = make_chain(tmp_path / "small")
    experiment = read_experiment("postprocess")
    planner = Planner(Source(chain), tmp_path / "out")
    places = {cell.name: planner.cell(cell.stages, cell.take) for cell in experiment.cells}
    lines: list[str] = []
    first = Judged(Source(chain), tmp_path / "out", report=lines.append, command="a")(experiment, places, {})
    assert {cell["state"] for cell in first["cells"].values()} == {"missing"} and first["command"] == "a"
    path = tmp_path / "out" / "postprocess" / "result.json"
    (path.parent / "table.json").write_text("{}")
    write_json(path, read_json(path) | {"date": "2001-01-01"})
    settings = {"trainer.max_steps": 3}
    Judged(Source(chain), tmp_path / "out", command="b", overrides=settings)(experiment, places, {})
    said = read_json(path)
    assert (said["command"], said["overrides"], said["date"]) == ("b", settings, "2001-01-01")


def test_a_smoke_test_names_what_is_lost_and_forgives_what_cannot_be_there(folder: Path):
    assert smoke.missing(folder, ["decomposition"]) == []
    (line,) = smoke.missing(folder, ["seeds"])
    assert "row 1 training 43 is failed: train/loss is nan" in line
    said = read_json(folder / "seeds" / "result.json")
    said["cells"]["row 1 training 43"]["why"] = "Demucs is not in x: put mdx_extra.yaml there"
    write_json(folder / "seeds" / "result.json", said)
    assert smoke.missing(folder, ["seeds"]) == []
    assert "no result was written" in smoke.missing(folder, ["guidance"])[0]


def test_rows_of_a_sweep_hold_their_seeds():
    rows = [
        system(f"{head}, seed {s}", shift + 0.02 * s) for head, shift in (("A", 0.0), ("B", 0.5)) for s in (0, 1, 2)
    ]
    result = summarise({"locked": (rows, None)}, None, [], [], 20)
    from fluxlight.evaluation.evaluate import per_clip_scores

    table, scores = result["tables"]["locked"], per_clip_scores(rows)
    groups = {head: [r.system for r in rows if r.system.startswith(head)] for head in "AB"}
    found = rows_of(table["systems"], scores, groups, ["reward_b"], "A")
    change = found["B"]["differences"]["reward_b"]
    assert change["mean"] == pytest.approx(0.5, abs=0.05) and change["low"] > 0.4 and change["seeds"] == 3
    assert found["A"]["differences"] == {}
