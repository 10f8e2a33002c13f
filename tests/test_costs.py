"""Costs: updates, clips and seconds are carried along the way to a row, and into no file that must be equal."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_world import make_candidates, make_world

from fluxlight.cli import main
from fluxlight.clips.folders import rendering_of
from fluxlight.files import read_json
from fluxlight.files.costs import read_costs, total, write_costs
from fluxlight.report.costs import write_costs_page

STAGES = Path(__file__).resolve().parents[1] / "configs/stages"


def fit(world: Path, stage: str, run: str, *more: str) -> Path:
    folder = world.parent / run
    words = ["fit", "--config", str(STAGES / f"{stage}.yaml"), "--config", str(world)]
    assert main([*words, "--trainer.default_root_dir", str(folder), *more], standalone=False) == 0
    return folder


def test_a_chain_knows_what_it_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = make_world(tmp_path)
    first = fit(world, "score_cond_sft", "first", "--trainer.max_steps", "4", "--ckpt_path", "last")
    [half] = read_costs(first)
    assert (half["stage"], half["updates"], half["clips"]) == ("ScoreCondSFT", 4, 16) and half["seconds"] > 0
    fit(world, "score_cond_sft", "first", "--ckpt_path", "last")
    [whole] = read_costs(first)
    assert whole["updates"] == 8 and whole["clips"] == 32, "8 updates of 4 clips"
    assert whole["begun"] == half["begun"] and whole["seconds"] > half["seconds"], "a run that goes on adds"
    assert {"updates in all", "clips in all"} <= set(rendering_of(first / "slice"))

    drawn = make_candidates(tmp_path / "drawn", tmp_path / "store")
    write_costs(drawn, [{"stage": "candidates", "begun": "1", "updates": 0, "clips": 12, "seconds": 2.0}])
    second = fit(world, "crpo", "second", "--data.pairs", str(drawn / "pairs.jsonl"), "--model.init_from",
                 str(first / "bundle"), "--model.skip", "[head.]", "--model.allow_new", "[head.]")  # fmt: skip
    way = read_costs(second)
    assert [cost["stage"] for cost in way] == ["ScoreCondSFT", "candidates", "CRPO"]
    assert way[-1]["clips"] == 64, "both clips of 8 x 4 pairs"
    assert rendering_of(second / "slice")["clips in all"] == 32 + 12 + 64
    for name in ("bundle/model.yaml", "slice/candidates.jsonl"):
        assert "seconds" not in (second / name).read_text() and "begun" not in (second / name).read_text()

    said = write_costs_page(tmp_path / "table", {"one": second / "slice", "other": tmp_path / "nowhere/slice"})
    assert "| one | **together** | 16 | 108 |" in said and "| other | not known |" in said
    assert read_json(tmp_path / "table/costs.json")["one"]["total"]["clips"] == 108
    assert write_costs_page(tmp_path / "none", {"other": tmp_path / "nowhere/slice"}) == ""
    assert not (tmp_path / "none").exists()


def test_a_stage_that_comes_by_two_ways_counts_once(tmp_path: Path) -> None:
    one = {"stage": "candidates", "begun": "1", "updates": 0, "clips": 5, "seconds": 1.5}
    write_costs(tmp_path, [one, {**one, "begun": "2"}, one])
    assert len(read_costs(tmp_path)) == 2 and total(read_costs(tmp_path)) == {"updates": 0, "clips": 10, "seconds": 3.0}
    (tmp_path / "costs.json").write_text("{")
    assert read_costs(tmp_path) == []
