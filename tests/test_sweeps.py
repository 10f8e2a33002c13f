"""Sweeps without a server: wandb's schema, wandb's search, wandb's commands, an agent's environment, real processes."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from paper_chain import make_chain
from wandb_reader import offline_runs

from experiments import sweep, sweep_table, trial
from experiments.sweep import next_trial
from experiments.sweeps.file import read_sweep
from experiments.sweeps.trials import Trial, Trials
from fluxlight.files import claim, read_json, read_yaml, write_json

sweeps = pytest.importorskip("sweeps")
pytest.importorskip("wandb")
ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted((ROOT / "experiments" / "sweeps").glob("*.yaml"))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chain(tmp_path_factory.mktemp("chain") / "small")


def trials_of(config: dict[str, Any], folder: Path, chain: Path) -> Trials:
    return Trials(folder, chain, config, "abcd1234")


def parsed(words: list[str], chain: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The configuration that a trial's command would run, parsed and not run."""
    monkeypatch.setenv("FLUXLIGHT_CHAIN", str(chain))
    monkeypatch.setenv("FLUXLIGHT_SWEEP", str(folder))
    monkeypatch.setenv("WANDB_RUN_ID", "t1")
    out = io.StringIO()
    with redirect_stdout(out):
        assert trial.main([*words, "--print_config"]) == 0
    return dict(yaml.safe_load(out.getvalue()))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_wandb_finds_nothing_wrong_with_the_shipped_sweeps(path: Path):
    config = yaml.safe_load(path.read_text())
    assert sweeps.schema_violations_from_proposed_config(config) == []
    # a server would sort trials by a key that is really logged
    recipe = read_yaml(ROOT / "configs" / "stages" / "score_cond_sft.yaml")
    keys = [c["init_args"].get("key") for c in recipe["trainer"]["callbacks"] if "init_args" in c]
    assert config["metric"]["name"] in keys
    assert (ROOT / config["program"]).is_file()
    # flat dotted keys, and no None that would arrive as the text "None"
    assert all(not isinstance(v, dict) or "parameters" not in v for v in config["parameters"].values())
    assert "None" not in path.read_text()


def test_the_grid_is_every_head_with_every_seed_and_every_command_parses(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = read_sweep(ROOT / "experiments" / "sweeps" / "heads.yaml")
    found: list[Trial] = []
    trials = trials_of(config, tmp_path, chain)
    while (parameters := next_trial(config, found, seed=0)) is not None:
        found.append(trials.add(parameters))
        assert len(found) <= 15
    assert len({(t.parameters["config"], t.parameters["seed_everything"]) for t in found}) == 15
    assert len({t.id for t in found}) == 15
    heads = set()
    for one in found[::3]:  # each head once
        words = trials.command(one)
        assert words[:4] == ["/usr/bin/env", "python", "-m", "experiments.trial"]
        got = parsed(words[4:], chain, tmp_path, monkeypatch)
        seed = one.parameters["seed_everything"]
        # one seed stands for initialisation, order of clips and draws, as in the recipes
        assert {got["seed_everything"], got["model"]["init_args"]["seed"], got["data"]["init_args"]["seed"]} == {seed}
        heads.add(got["model"]["init_args"]["head"]["class_path"].rsplit(".", 1)[-1])
        assert got["trainer"]["default_root_dir"] == str(tmp_path / "t1")
        assert got["trainer"]["logger"]["class_path"].endswith("StageWandbLogger")
        assert got["model"]["init_args"]["init_from"] == str(chain / "trunk" / "bundle")
    assert heads == {"GlobalAdaLN", "InputAdd", "AudioPrepend", "BlockAdaLN", "TextPrepend"}


def test_bayesian_search_repeats_itself_and_its_commands_parse(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = read_sweep(ROOT / "experiments" / "sweeps" / "bayes.yaml")

    def drawn(values: list[float], seed: int = 0) -> list[dict[str, Any]]:
        known: list[Trial] = []
        for k, value in enumerate(values):
            parameters = next_trial(config, known, seed)
            assert parameters is not None
            known.append(Trial(k, str(k), parameters, "finished", history=[{"updates": 8, "val/reward": value}]))
        return [t.parameters for t in known]

    first = drawn([0.1, 0.5, 0.2, 0.4])
    assert first == drawn([0.1, 0.5, 0.2, 0.4]) != drawn([0.1, 0.5, 0.2, 0.4], seed=1)
    assert len({p["model.optimizer.lr"] for p in first}) == 4
    assert all(1e-4 <= p["model.optimizer.lr"] <= 3e-3 and 1 <= p["model.sampler.cfg_weight"] <= 8 for p in first)
    trials = trials_of(config, tmp_path, chain)
    one = trials.add(first[0])
    said = yaml.safe_load(Path(trials.environment(one)["WANDB_SWEEP_PARAM_PATH"]).read_text())
    assert said["model.optimizer.lr"]["value"] == first[0]["model.optimizer.lr"]
    got = parsed(trials.command(one)[4:], chain, tmp_path, monkeypatch)
    model = got["model"]["init_args"]
    assert model["optimizer"]["init_args"]["lr"] == pytest.approx(first[0]["model.optimizer.lr"])
    assert model["score_drop"] == pytest.approx(first[0]["model.score_drop"])
    assert model["sampler"]["cfg_weight"] == pytest.approx(first[0]["model.sampler.cfg_weight"])
    assert model["score_quantile"] == pytest.approx(first[0]["model.score_quantile"])
    assert model["render_every"] == trial.cadence(got, 4) > 0 and got["data"]["init_args"]["slice_clips"] == 40
    assert got["data"]["init_args"]["slice_measured"], "it is chosen by what it measures"


def test_renderings_of_a_trial_fall_on_whole_epochs_at_any_scale():
    def plan(updates: int, epoch: int, accumulate: int = 1) -> dict[str, Any]:
        trainer = {"max_steps": updates, "accumulate_grad_batches": accumulate}
        return {"trainer": trainer, "data": {"init_args": {"batches_per_epoch": epoch}}}

    found = [trial.cadence(plan(*p), n) for p, n in (((800, 200), 4), ((3000, 500), 4), ((100, 50, 2), 2), ((8, 2), 1))]
    assert found == [200, 500, 50, 0]
    with pytest.raises(ValueError, match="'often' is no count"):
        trial.split(["--renderings=often"])


def sleeping(folder: Path, seconds: int = 60) -> dict[str, Any]:
    """A sweep whose trials only sleep."""
    return {"name": "sleep", "program": "none", "method": "random",
            "metric": {"name": "val/reward", "goal": "maximize"},
            "early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 2},
            "command": [sys.executable, "-c", f"import time; time.sleep({seconds})"],
            "parameters": {"x": {"min": 0.0, "max": 1.0}}}  # fmt: skip


def test_hyperband_ends_what_falls_behind_and_nothing_else(tmp_path: Path):
    trials = trials_of(sleeping(tmp_path), tmp_path, tmp_path)
    for number in range(4):
        trials.start(trials.add({"x": number / 4}))
        history = [{"updates": u, "val/reward": number + 0.1 * u} for u in (2, 4)[: 1 if number == 0 else 2]]
        write_json(tmp_path / trials.all[-1].id / "run.json", {"fit": {"history": history}})
    try:
        assert trials.poll() == []
        trials.stop_behind()
        # the first has rendered once only and cannot be judged yet; of the others the lower half goes
        assert [t.state for t in trials.all] == ["running", "stopped", "running", "running"]
        while not (over := trials.poll()):
            pass
        assert [t.number for t in over] == [1] and read_json(tmp_path / over[0].id / "trial.json")["state"] == "stopped"
    finally:
        trials.interrupt()
    assert "hyperband after 2 renderings, val/reward 1.4000" in sweep_table._why(over[0], sleeping(tmp_path))
    # what was running goes on the next time, what was stopped does not
    again = trials_of(sleeping(tmp_path), tmp_path, tmp_path)
    again.load()
    assert [t.number for t in again.waiting] == [0, 2, 3] and [t.number for t in again.ended] == [1]


def test_trials_of_an_agent_are_collected_and_left_to_it(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """`wandb agent` writes no record of its own: the trial does, and the table finds it."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"FLUXLIGHT_CHAIN": str(chain), "WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "r1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FLUXLIGHT_SWEEP", raising=False)
    words = ["--like=row1", "--config=configs/heads/input_add.yaml", "--seed_everything=43"]
    with redirect_stdout(io.StringIO()):
        assert trial.main([*words, "--print_config"]) == 0
    folder = tmp_path / "runs" / "sweep" / "s1"
    config = read_sweep(ROOT / "experiments" / "sweeps" / "heads.yaml")
    found = trials_of(config, folder, chain)
    found.load()
    assert [t.state for t in found.all] == ["finished"] and not found.waiting
    said = {"like": "row1", "config": "configs/heads/input_add.yaml", "seed_everything": 43}
    assert said.items() <= found.all[0].parameters.items()
    # one that is running is the agent's, the local runner does not start it a second time
    record = read_json(folder / "r1" / "trial.json")
    write_json(folder / "r1" / "trial.json", {**record, "state": "running"})
    found.load()
    assert not found.waiting
    words = [str(ROOT / "experiments/sweeps/heads.yaml"), "--from", str(chain), "--out", str(tmp_path / "none")]
    assert sweep_table.main(words) == 2
    assert "holds no trials" in capsys.readouterr().err


def test_a_second_runner_leaves_a_running_sweep_alone(
    tmp_path: Path, chain: Path, capsys: pytest.CaptureFixture[str]
):
    given = [str(SHIPPED[0]), "--from", str(chain), "--out", str(tmp_path / "out"), "--cap", "1"]
    folder = tmp_path / "out" / "sweeps" / yaml.safe_load(SHIPPED[0].read_text())["name"]
    with claim(folder):
        assert sweep.main(given) == 2
    assert "is in use by another run: wait for it" in capsys.readouterr().out
    assert not list(folder.glob("*/trial.json"))


def test_bad_sweeps_are_one_clear_line(tmp_path: Path, chain: Path, capsys: pytest.CaptureFixture[str]):
    bad = tmp_path / "bad.yaml"
    bad.write_text(yaml.safe_dump({"method": "grid", "parameters": {"a": {"valuez": [1]}}}))
    endless = tmp_path / "endless.yaml"
    endless.write_text(yaml.safe_dump(sleeping(tmp_path)))
    for path, says in ((bad, "valuez"), (tmp_path / "none.yaml", "does not exist"), (endless, "--cap")):
        assert sweep.main([str(path), "--from", str(chain), "--out", str(tmp_path / "out")]) == 2
        (line,) = capsys.readouterr().out.strip().splitlines()
        assert says in line, line


def test_a_sweep_runs_as_under_an_agent_and_a_second_call_finds_it_done(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """End to end: real processes, wandb offline with an agent's variables, a failure kept, nothing done twice."""
    config = yaml.safe_load((ROOT / "experiments" / "sweeps" / "heads.yaml").read_text())
    config["parameters"]["config"]["values"] = ["configs/heads/input_add.yaml", "configs/heads/none_such.yaml"]
    config["parameters"]["seed_everything"] = {"value": 7}
    config["parameters"]["model.init_from"] = {"value": "null"}  # no trunk on paper
    config["parameters"]["trainer.max_steps"] = {"value": 2}
    config["parameters"]["data.reference"] = {"value": "null"}
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(config))
    tests = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    for name, value in {"PYTHONPATH": tests, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}.items():
        monkeypatch.setenv(name, value)
    words = [str(path), "--from", str(chain), "--out", str(tmp_path / "out"), "--jobs", "2", "--no-table"]
    assert sweep.main(words) == 1
    said = capsys.readouterr().out
    assert "none_such.yaml" in said and "failed" in said
    folder = tmp_path / "out" / "sweeps" / "heads"
    states = {t["state"]: t for t in map(read_json, folder.glob("*/trial.json"))}
    assert set(states) == {"finished", "failed"}
    done = folder / states["finished"]["id"]
    facts = read_json(done / "run.json")["fit"]
    assert facts["updates"] == 2 and facts["seeds"]["model"] == 7 and (done / "bundle" / "model.yaml").is_file()
    (run,) = offline_runs(done)
    assert run.id == states["finished"]["id"] and run.name == "ScoreCondSFT InputAdd seed 7"
    assert run.sweep_id == read_sweep_id(config)
    # what the agent's file of parameters says is in the run's configuration, beside the parsed one
    assert run.config["seed_everything"] == 7 and run.config["model"]["init_args"]["seed"] == 7
    assert config["metric"]["name"].split("/")[0] == "val" and any("val/reward" in row for row in run.history)
    # nothing is done twice, and the failure stays
    written = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.suffix == ".safetensors"}
    assert sweep.main(words) == 1
    assert "2 trials there already" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in written} == written


def read_sweep_id(config: dict[str, Any]) -> str:
    from fluxlight.files import hash_of

    return hash_of(config)[:8]
