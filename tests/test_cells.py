"""Cells: every shipped experiment plans, a cell differs from its base in its delta alone, works are made once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from paper_chain import make_chain

from experiments import run
from experiments.cells.experiment import Experiment, names, read_experiment
from experiments.cells.plan import Place, Planner
from experiments.cells.source import Source, put, replaced


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
    """The configuration of a cell is the chain's own but for the keys its stages and its delta name."""
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
        asked = {key for stage in cell.stages.values() for key in stage.get("set", {})}
        assert {key for stage in cell.delta.values() for key in stage.get("set", {})} <= asked
        own = dict(flat(planner.works[place.work].config))
        changed = {key for key, value in own.items() if bases[cell.name].get(key) != value} - folders
        # a selection of its own is another file under the same key
        changed -= {"data.init_args.pairs"} if "select" in cell.delta else set()
        changed = {key.replace("init_args.", "") for key in changed}
        # a class that is named, or left out, is a key and those below it
        assert all(any(key == one or key.startswith(f"{one}.") for one in asked) for key in changed), cell.name
        assert changed or "select" in cell.delta, cell.name
        compared += 1
    assert compared >= 5


def test_a_cell_without_a_delta_is_the_chains_own(chain: Path, tmp_path: Path):
    for name, cell, step in (("crpo", "published", "row4"), ("expert_iteration", "one round", "row2"),
                             ("guided_rows", "row 1, default", "row1"),
                             ("score_sweep", "row 2, s at q0.99", "row2")):  # fmt: skip
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
    assert len({third, second, *(p.work for p in places.values())} - {""}) == len(places) - 3


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
    marker = moved / "steps" / "row1.json"
    marker.write_text(marker.read_text().replace('"outputs": {', '"outputs": {\n  "row1/new": "0",', 1))
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


def test_a_weight_in_a_name_is_the_weight_whatever_the_chain_was_guided_by(chain: Path, tmp_path: Path):
    strong = tmp_path / "strong"
    shutil.copytree(chain, strong)
    for path in strong.glob("row*/config*.yaml"):
        config = yaml.safe_load(path.read_text())
        joint = {"guidance": None, "cfg_weight": 4.0, "negative": "stored", "negative_score": None}
        for key, value in joint.items():
            put(config, f"model.sampler.{key}", value)
        put(config, "model.negative_score_quantile", None)
        path.write_text(yaml.safe_dump(config))
    for name, two, four in (("guidance", "w 2", "w 4.0"), ("guided_rows", "row 1, joint w 2", "row 1, joint w 4")):
        _, planner, places = planned(strong, tmp_path, name)
        assert places[four].folder == strong / "row1"
        config = planner.works[places[two].work].config
        assert config is not None and config["model"]["init_args"]["sampler"]["cfg_weight"] == 2.0


def test_the_command_of_a_result_holds_what_changes_it(chain: Path):
    words = ["seeds", "--from", str(chain), "--out", "x", "--jobs", "2", "--retry"]
    given = run.parser().parse_args([*words, "--set", "trainer.max_steps=9", "--cell", "row 1 noise 55"])
    assert run.command_of("seeds", Source(chain), given) == (
        "python -m experiments.run seeds --from small --out DIR --set trainer.max_steps=9 --cell 'row 1 noise 55'"
    )


def test_what_others_have_in_a_folder_is_left_alone(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("years")
    (tmp_path / "file").write_text("x")
    shutil.copytree(chain, tmp_path / "other chain")
    for out, says in (("mine", "not of experiments"), ("file", "is a file"), ("other chain", "run folder")):
        assert run.main(["guidance", "--from", str(chain), "--out", str(tmp_path / out)]) == 2
        (line,) = capsys.readouterr().out.strip().splitlines()
        assert says in line
    assert run.main(["guidance", "--from", str(tmp_path / "mine"), "--out", str(tmp_path / "new")]) == 2
    assert "no run folder of the chain" in capsys.readouterr().out and not (tmp_path / "new").exists()
    words = ["--from", str(chain), "--out", str(tmp_path / "new"), "--plan", "--set", "trainer.max_steps=3"]
    assert run.main(["guidance", *words]) == 2 and "guidance has none" in capsys.readouterr().out
    assert run.main(["crpo", *words]) == 0 and not (tmp_path / "new").exists()
    # what a sweep has left is of experiments
    (tmp_path / "swept" / "sweeps").mkdir(parents=True)
    run.check_out(tmp_path / "swept", chain)


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
