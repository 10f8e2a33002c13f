"""wandb offline: what lands in a run, what runs are called, what goes on and what never clashes."""

from __future__ import annotations

import io
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from small_world import make_world
from wandb_reader import OfflineRun, offline_runs

from callbacks.tracker import describe
from callbacks.wandb_run import run_id
from fluxlight.cli import main
from fluxlight.files import read_json

pytest.importorskip("wandb")
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    overlay = make_world(folder)
    # the logger's overlay appends its callback, so it must come after the overlay that replaces the list
    return overlay


def start(world: Path, run: Path, verb: str, *more: str, stage: str = "score_cond_sft") -> None:
    words = [verb, "--config", str(CONFIGS / "stages" / f"{stage}.yaml"), "--config", str(world)]
    words += ["--config", str(CONFIGS / "loggers" / "wandb.yaml"), "--trainer.default_root_dir", str(run), *more]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert main(words, standalone=False) == 0


def anew(folder: Path) -> None:
    """Take away what no other run may replace."""
    (folder / "last.ckpt").unlink()
    shutil.rmtree(folder / "bundle")


@pytest.fixture(scope="module")
def runs(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[OfflineRun]]:
    """One folder with a fit that was stopped half way and went on, a fit anew, and a validate."""
    folder = tmp_path_factory.mktemp("run") / "row1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        for name in ("WANDB_RUN_ID", "WANDB_SWEEP_ID"):
            patch.delenv(name, raising=False)
        start(world, folder, "fit", "--trainer.max_steps", "4", "--ckpt_path", "last")
        start(world, folder, "fit", "--ckpt_path", "last")
        anew(folder)
        start(world, folder, "fit", "--seed_everything", "43", stage="row0_baseline")
        anew(folder)
        start(world, folder, "fit")
        start(world, folder, "validate", "--model.init_from", str(folder / "bundle"))
    return folder, offline_runs(folder)


def test_names_and_groups_tell_stage_head_and_seed(runs: tuple[Path, list[OfflineRun]]):
    _, found = runs
    assert [run.name for run in found] == [
        "ScoreCondSFT GlobalAdaLN seed 42", "ScoreCondSFT GlobalAdaLN seed 42", "ScoreCondSFT no head seed 43",
        "ScoreCondSFT GlobalAdaLN seed 42", "ScoreCondSFT GlobalAdaLN seed 42",
    ]  # fmt: skip
    assert {run.group for run in found} == {"ScoreCondSFT GlobalAdaLN", "ScoreCondSFT no head"}
    assert [run.job_type for run in found] == ["fit"] * 4 + ["measure"]
    assert all("row1" in run.tags for run in found)


def test_a_run_that_goes_on_is_the_same_run_and_no_other_is(runs: tuple[Path, list[OfflineRun]]):
    folder, found = runs
    first, second, *others = (run.id for run in found)
    assert first == second
    assert len({first, *others}) == 4
    names = [str(folder.resolve()), "ScoreCondSFT GlobalAdaLN seed 42", "fit"]
    assert run_id(names, folder, going_on=True) == others[1] and run_id(names, folder, going_on=False) not in others
    # the second half starts where the first ended
    updates = [[row["trainer/global_step"] for row in run.history if "train/loss" in row] for run in found[:2]]
    assert updates[0] == [0, 1, 2, 3] and len(updates[1]) == 4 and min(updates[1]) > 3


def test_config_metrics_audio_table_and_page_land_in_the_run(runs: tuple[Path, list[OfflineRun]]):
    _, found = runs
    run = found[1]
    assert run.config["model"]["class_path"].endswith("ScoreCondSFT")
    assert run.config["model"]["init_args"]["head"]["class_path"].endswith("GlobalAdaLN")
    keys = {key for row in run.history for key in row}
    assert {"train/loss", "train/lr", "val/clap", "val/reward", "slice/clips", "slice/page"} <= keys
    assert run.exit_code == 0
    (table,) = run.media("table")
    rows = read_json(table)
    assert rows["columns"] == ["id", "prompt", "seed", "CLAP", "delivery"] and len(rows["data"]) == 7
    # the mean over the table is the number that was logged
    logged = next(row["val/clap"] for row in run.history if "val/clap" in row)
    assert sum(row[3] for row in rows["data"]) / 7 == pytest.approx(logged, abs=1e-5)
    assert len(run.media("audio")) == 7 and all(path.stat().st_size > 1000 for path in run.media("audio"))
    (page,) = run.media("html")
    text = page.read_text()
    assert text.count("<audio") == 7 and "data:audio/mpeg;base64," in text and "slice-000" in text


def test_a_run_folder_describes_itself(runs: tuple[Path, list[OfflineRun]], world: Path):
    folder, found = runs
    facts = read_json(folder / "run.json")
    fit, validate = facts["fit"], facts["validate"]
    assert fit["versions"]["torch"] and fit["revision"] and fit["python"] and fit["cores"]
    assert fit["seeds"] == {"seed_everything": 42, "model": 42, "data": 42, "slice": 42, "candidates": 1000}
    assert len(fit["data"]["store"]) == 16 and fit["data"]["store"] != fit["data"]["slice"]
    assert fit["updates"] == 8 and fit["metrics"]["val/clap"] == pytest.approx(fit["history"][-1]["val/clap"])
    assert {"bundle/weights.safetensors", "slice/candidates.jsonl"} <= set(fit["artefacts"])
    assert validate["init_from"]["hash"] == fit["artefacts"]["bundle/weights.safetensors"][:16]
    assert fit["init_from"] is None
    # the numbers in the folder and those in wandb are the same ones
    logged = next(row["val/reward"] for row in found[3].history if "val/reward" in row)
    assert fit["metrics"]["val/reward"] == pytest.approx(logged)


def test_a_name_of_your_own_and_a_head_of_none():
    said = describe({"model": {"class_path": "fluxlight.stages.CRPO", "init_args": {"head": None, "seed": 7}},
                     "trainer": {"default_root_dir": "/x/row4"}})  # fmt: skip
    assert said == {"name": "CRPO no head seed 7", "group": "CRPO no head", "tag": "row4"}
