"""Cells: every shipped experiment plans, a cell differs from its base in its delta alone, works are made once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from paper_chain import make_chain

from experiments import run
from experiments.choose import first_clips
from experiments.experiment import Experiment, names, read_experiment
from experiments.plan import Place, Planner, Work
from experiments.source import Source, put, replaced
from experiments.steps import Command
from experiments.work import make_all
from fluxlight.files import read_jsonl


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chain(tmp_path_factory.mktemp("chain") / "small")


def planned(chain: Path, out: Path, name: str, **more: Any) -> tuple[Experiment, Planner, dict[str, Place]]:
    experiment, planner = read_experiment(name), Planner(Source(chain), out, **more)
    return experiment, planner, run.plan(planner, experiment)


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys of a configuration and their values."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


# -- files of cells --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_every_shipped_experiment_plans_and_its_works_come_in_order(name: str, chain: Path, tmp_path: Path):
    experiment, planner, places = planned(chain, tmp_path, name)
    assert len(places) == len(experiment.cells)
    seen: set[str] = set()
    for work in planner.works.values():
        assert set(work.needs) <= seen, f"{work.name} needs what comes later"
        seen.add(work.name)
    # a smoke test is a part of it: the same cells, fewer
    smoke = {cell.name for cell in read_experiment(name, smoke=True).cells}
    assert 2 <= len(smoke) < max(len(experiment.cells), 3) and smoke <= set(places)


@pytest.mark.parametrize("name", ["guidance", "crpo", "score_sweep"])
def test_one_factor_at_a_time(name: str, chain: Path, tmp_path: Path):
    """The configuration of a cell is the chain's own but for the keys its delta names."""
    experiment, planner, places = planned(chain, tmp_path, name)
    bases = {cell.name: dict(flat(Source(chain).config(places[cell.name].like))) for cell in experiment.cells}
    folders = {
        "trainer.default_root_dir",
        "trainer.logger.init_args.save_dir",
        "model.init_args.init_from",
        "ckpt_path",
    }
    compared = 0
    for cell in experiment.cells:
        place = places[cell.name]
        if not place.work:
            continue
        asked = {key for stage in cell.delta.values() for key in stage.get("set", {})}
        own = dict(flat(planner.works[place.work].config))
        changed = {key for key, value in own.items() if bases[cell.name].get(key) != value} - folders
        # a selection of its own is another file under the same key
        changed -= {"data.init_args.pairs"} if "select" in cell.delta else set()
        assert {key.replace("init_args.", "") for key in changed} == asked, cell.name
        compared += 1
    assert compared >= 5


def test_a_cell_without_a_delta_is_the_chains_own(chain: Path, tmp_path: Path):
    for name, cell, step in (("crpo", "published", "row4"), ("expert_iteration", "one round", "row2"),
                             ("guidance", "w 2", "row1"), ("score_sweep", "row 2, s at q0.99", "row2")):  # fmt: skip
        _, _, places = planned(chain, tmp_path, name)
        assert places[cell].folder == chain / step and not places[cell].work, name


def test_cells_share_what_they_have_in_common(chain: Path, tmp_path: Path):
    _, planner, places = planned(chain, tmp_path, "expert_iteration")
    works = planner.works
    # the third round stands on the second, which is made once
    second, third = places["rounds 2"].work, places["rounds 3"].work
    (draw,) = [w for w in works.values() if w.name.startswith("draw-3")]
    assert second in draw.needs
    assert sum(w.name.startswith("draw-2") for w in works.values()) == 1
    # another share of experts needs no other candidates, another blend no other either
    assert not [w for w in works.values() if w.name.startswith("draw-") and w not in (draw, works[draw.needs[0]])][2:]
    assert len({third, second, *(p.work for p in places.values())} - {""}) == len(places) - 2


def test_names_stand_for_contents(chain: Path, tmp_path: Path):
    """Both folders may be moved; another result of the chain, or another setting, is another work."""
    _, planner, before = planned(chain, tmp_path / "a", "guidance")
    moved = tmp_path / "elsewhere"
    shutil.copytree(chain, moved)
    _, again, after = planned(moved, tmp_path / "b", "guidance")
    assert list(planner.works) == list(again.works)
    assert all(str(chain) not in str(work.config) for work in again.works.values())
    assert {k: p.hash for k, p in before.items()} == {k: p.hash for k, p in after.items()}
    fewer = planned(chain, tmp_path / "a", "guidance", clips=3)[1]
    assert not set(fewer.works) & set(planner.works)
    marker = moved / "steps" / "row4.json"
    marker.write_text(marker.read_text().replace('"outputs": {', '"outputs": {\n  "row4/new": "0",', 1))
    assert not set(planned(moved, tmp_path / "b", "guidance")[1].works) & set(planner.works)


def test_shorter_trainings_are_said_and_reach_trainings_alone(chain: Path, tmp_path: Path):
    _, planner, _ = planned(chain, tmp_path, "cross_load", overrides={"trainer.max_steps": 4})
    steps = {w.name.split("-")[0]: w.config["trainer"]["max_steps"] for w in planner.works.values() if w.config}
    assert steps == {"train": 4, "forward": 8}
    # with it v1 is no longer the chain's own, so all five heads are trained alike
    assert sum(w.inputs["do"] == "fit" for w in planner.works.values()) == 5
    assert sum(w.inputs["do"] == "fit" for w in planned(chain, tmp_path, "cross_load")[1].works.values()) == 4


def test_inference_alone_leaves_out_what_stands_on_a_training(chain: Path, tmp_path: Path):
    _, planner, _ = planned(chain, tmp_path, "cross_load")
    kept = run.without_training(planner)
    assert len(kept) == 5 and all(work.inputs["do"] == "validate" for work in kept)  # v1 in each of five
    assert not run.without_training(planned(chain, tmp_path, "crpo")[1])[6:]


def test_some_cells_need_only_their_own_works(chain: Path, tmp_path: Path):
    experiment, planner, places = planned(chain, tmp_path, "expert_iteration")
    kept = run.behind(planner, experiment, places, ["top 1.0", "one round"])
    assert sorted(name.split("-")[0] for name in kept) == ["mixture", "polish", "select"]
    assert len(run.behind(planner, experiment, places, ["rounds 3"])) == 8  # two rounds of four works each
    with pytest.raises(ValueError, match="--cell top 7"):
        run.behind(planner, experiment, places, ["top 7"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stages": {"clip": {"do": "paint"}}}, "do is 'paint'"),
        ({"stages": {"clip": {"do": "render", "from": "row1", "speed": 3}}}, "unknown speed"),
        ({"cells": {"a": {}, "b": {"clap": {}}}}, "no stage is called clap"),
        ({"cells": {"a": {}}}, "a comparison needs two"),
        ({"against": "c"}, "against names c"),
        ({"cells": {"a": {}, "b": {"clip": {"set": {"model.sampler.stepz": 3}}}}}, "no stepz in the configuration"),
        ({"stages": {"clip": {"do": "render", "from": "clip"}}}, "circle"),
        ({"colour": "red"}, "unknown colour"),
    ],
)
def test_mistakes_in_a_file_are_one_clear_line(change: dict[str, Any], says: str, chain: Path, tmp_path: Path):
    said = {"title": "t", "question": "q", "stages": {"clip": {"do": "render", "from": "row1"}},
            "cells": {"a": {}, "b": {"clip": {"set": {"model.sampler.steps": 3}}}}}  # fmt: skip
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(said | change))
    with pytest.raises(ValueError, match=says):
        planned(chain, tmp_path, str(path))


def test_keys_pass_through_init_args_and_paths_move_as_a_whole():
    config = {"model": {"class_path": "a.B", "init_args": {"sampler": {"steps": 2}}}}
    put(config, "model.sampler.steps", 5)
    assert config["model"]["init_args"]["sampler"]["steps"] == 5
    with pytest.raises(ValueError, match="key model.speed"):
        put(config, "model.speed", 1)
    assert replaced({"a": ["/x/y/z", "/x/yy", 1]}, "/x/y", "<y>") == {"a": ["<y>/z", "/x/yy", 1]}


# -- making works ----------------------------------------------------------------------------------------------


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A program that writes a file, or fails, and counts its calls."""
    module = ModuleType("test_cell_program")
    module.calls = []  # type: ignore[attr-defined]

    def main(args: list[str]) -> int:
        module.calls.append(args[0])  # type: ignore[attr-defined]
        if args[1] == "fail":
            raise ValueError("bundle x has unknown head.gain (1 of 9 names)")
        if args[1] == "stop":
            raise KeyboardInterrupt
        Path(args[0]).parent.mkdir(parents=True, exist_ok=True)
        Path(args[0]).write_text(args[1])
        return 0

    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "test_cell_program", module)
    return module


def work(out: Path, name: str, word: str, *needs: str) -> Work:
    command = Command("test_cell_program", (str(out / "work" / name / "x.txt"), word))
    return Work(name, {"word": word}, (command,), {"a": 1}, (f"work/{name}/x.txt",), needs)


def test_works_are_made_once_and_failures_are_kept(tmp_path: Path, program: ModuleType):
    works = [work(tmp_path, "a", "one"), work(tmp_path, "b", "fail"), work(tmp_path, "c", "two", "b"),
             work(tmp_path, "d", "three", "a")]  # fmt: skip
    found = make_all(tmp_path, works, report=lambda line: None)
    assert {name: o.state for name, o in found.items()} == {"a": "done", "b": "failed", "c": "blocked", "d": "done"}
    assert "unknown head.gain" in found["b"].why and "needs b" in found["c"].why
    assert yaml.safe_load((tmp_path / "work/a/cell.yaml").read_text()) == {"a": 1}
    calls = len(program.calls)
    again = make_all(tmp_path, works, report=lambda line: None)
    assert len(program.calls) == calls and again["b"].why == found["b"].why  # a failure is not tried again by itself
    make_all(tmp_path, works, retry=True, report=lambda line: None)
    assert len(program.calls) == calls + 1
    # a damaged file is made again
    (tmp_path / "work/a/x.txt").write_text("edited")
    make_all(tmp_path, works, report=lambda line: None)
    assert (tmp_path / "work/a/x.txt").read_text() == "one" and len(program.calls) == calls + 2


def test_an_interruption_keeps_what_is_done(tmp_path: Path, program: ModuleType):
    works = [work(tmp_path, "a", "one"), work(tmp_path, "b", "stop")]
    with pytest.raises(KeyboardInterrupt):
        make_all(tmp_path, works, report=lambda line: None)
    (tmp_path / "work/b/last.ckpt").write_text("half way")
    found = make_all(tmp_path, [works[0], Work("b", works[1].inputs, works[0].commands)], report=lambda line: None)
    assert found["b"].state == "done" and found["a"].before
    assert (tmp_path / "work/b/last.ckpt").exists()  # it was not begun anew


def test_selections_in_two_processes_are_those_of_one(chain: Path, tmp_path: Path):
    """Real works, real processes: the selections of the CRPO and expert ablations."""
    found = {}
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        planner = Planner(Source(chain), out)
        for name in ("crpo", "expert_iteration"):
            run.plan(planner, read_experiment(name))
        selections = [w for w in planner.works.values() if w.inputs["do"] == "select" and not w.needs]
        assert len(selections) >= 8
        made = make_all(out, selections, jobs, report=lambda line: None)
        assert {o.state for n, o in made.items()} <= {"done", "failed"}
        found[jobs] = {
            p.relative_to(out / "work").as_posix(): p.read_text()
            for p in (out / "work").glob("*/*.jsonl") if p.stem != "scores"
        }  # fmt: skip
    assert found[1] == found[2] and len(found[1]) >= 6
    # what a stage is told to train on lies beside its latents
    (folder,) = {Path(name).parent for name in found[1] if name.startswith("select") and "experts" in name and
                 len(found[1][name].splitlines()) == 12}  # fmt: skip
    rows = read_jsonl(tmp_path / "1" / "work" / folder / "experts.jsonl")
    assert all((tmp_path / "1" / "work" / folder / row["latent"]).is_file() for row in rows)


def test_fewer_candidates_are_the_first_of_each_prompt():
    rows = [{"id": id, "seed": seed} for seed in (5, 1, 3) for id in "ab"]
    assert [(r["id"], r["seed"]) for r in first_clips(rows, 2)] == [("a", 1), ("b", 1), ("a", 3), ("b", 3)]
    with pytest.raises(ValueError, match="per_prompt is 4"):
        first_clips(rows, 4)


def test_the_same_latents_are_delivered_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from experiments import deliver
    from fluxlight.metrics.clips import read_clip
    from fluxlight.mining.candidates import read_candidates, write_batch
    from fluxlight.postprocess import integrated_loudness

    torch = pytest.importorskip("torch")
    latents = torch.randn(2, 72, 64, generator=torch.Generator().manual_seed(0))
    write_batch(tmp_path / "slice", ["p", "q"], ["a", "b"], [42, 43], "w", torch.zeros(2, 441000), latents, 44100)
    levels = {}
    for steps in ((), ("loudness",)):
        out = tmp_path / ("-".join(steps) or "raw")
        words = [word for step in steps for word in ("--step", step)]
        assert deliver.main(["--rendered", str(tmp_path / "slice"), "--out", str(out), "--clips", "1", *words]) == 0
        (row,) = read_candidates(out)
        audio, rate = read_clip(out / row.audio)
        levels[steps] = integrated_loudness(torch.from_numpy(audio), rate)
        assert row.extra["postprocess"] == list(steps) and row.id == "p"
        assert np.abs(audio).max() > 0.01
    assert levels["loudness",] == pytest.approx(-16.5, abs=0.2) or levels["loudness",] < -16.5
    assert abs(levels["loudness",] - levels[()]) > 0.5
    monkeypatch.setenv("FLUXLIGHT_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="mdx_extra.yaml"):
        deliver.steps_of(["demucs"])
