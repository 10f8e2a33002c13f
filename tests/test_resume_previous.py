"""A last checkpoint that is damaged or gone gives way to the one before it, and the run ends in the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_world import make_world

from callbacks import LastCheckpoint
from fluxlight.cli import main
from fluxlight.files import read_json, write_json
from fluxlight.stages.seal import whole

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def fit(tmp_path: Path) -> list[str]:
    """The words of a fit of eight updates, a checkpoint every two, into ``tmp_path/run``, that goes on."""
    words = ["fit", "--config", str(ROOT / "configs/stages/score_cond_sft.yaml"), "--config", str(make_world(tmp_path))]
    return [*words, "--trainer.default_root_dir", str(tmp_path / "run"), "--ckpt_path", "last"]


def updates(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def spoil(last: Path, how: str) -> None:
    """What a machine that loses power, or a hand, leaves of a file."""
    good = last.read_bytes()
    last.unlink()  # previous.ckpt may once have been this very file
    if how != "gone":
        cut = {"empty": 0, "short": len(good) // 2, "short by one": len(good) - 1}
        last.write_bytes(b"\0" * len(good) if how == "zeros" else good[: cut[how]])


def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, fit: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(fit) == 0
    made = {name: (run / name).read_bytes() for name in ("bundle/weights.safetensors", "slice/candidates.jsonl")}
    assert updates(run / "last.ckpt") == 8 and updates(run / "previous.ckpt") == 6 and whole(run / "previous.ckpt")
    for how in ("empty", "short", "short by one", "zeros", "gone"):
        spoil(run / "last.ckpt", how)
        for name in made:
            (run / name).unlink()
        capsys.readouterr()
        assert main(fit) == 0
        said = capsys.readouterr().err
        state = "is missing" if how == "gone" else "is damaged"
        assert f"last.ckpt {state}: going on from previous.ckpt beside it, 6 updates" in said
        assert updates(run / "last.ckpt") == 8 and updates(run / "previous.ckpt") == 6
        assert {name: (run / name).read_bytes() for name in made} == made
        assert not list(run.glob(".*.ckpt"))


def facts(run: Path) -> dict[str, Any]:
    """What run.json says of a fit, but for when."""
    return {key: value for key, value in read_json(run / "run.json")["fit"].items() if key not in ("begun", "ended")}


def test_a_run_that_was_stopped_behind_its_last_update_is_brought_to_its_end(tmp_path: Path, fit: list[str]) -> None:
    """Its bundle, its rendering and what it says of itself, its last loss among it, are those of any other."""
    run = tmp_path / "run"
    assert main(fit) == 0
    made, said = (run / "bundle/model.yaml").read_bytes(), facts(run)
    assert {"train/loss", "train/lr", "val/clap"} <= said["metrics"].keys()
    short = {key: value for key, value in said.items() if key not in ("metrics", "artefacts", "updates")}
    for left in ("no end", "no recipe", "no rendering"):
        write_json(run / "run.json", {"fit": {**short, "begun": ""}})
        if left == "no recipe":
            (run / "bundle/model.yaml").unlink()
        if left == "no rendering":
            (run / "slice").rename(run / ".slice.old")
        assert main(fit) == 0
        assert facts(run) == said and (run / "bundle/model.yaml").read_bytes() == made
        assert (run / "slice").is_dir() and not (run / ".slice.old").exists()


def test_nothing_is_guessed_where_both_are_damaged_or_the_file_is_named(
    tmp_path: Path, fit: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(fit) == 0
    spoil(run / "last.ckpt", "short")
    capsys.readouterr()
    assert main([*fit[:-1], str(run / "last.ckpt")]) == 2
    assert f"damaged or no checkpoint; --ckpt_path {run / 'previous.ckpt'} goes on" in capsys.readouterr().err
    spoil(run / "previous.ckpt", "zeros")
    kept = (run / "last.ckpt").read_bytes()
    assert main(fit) == 2
    assert "last.ckpt cannot be read: it is damaged or no checkpoint; delete it" in capsys.readouterr().err
    assert (run / "last.ckpt").read_bytes() == kept


def test_a_damaged_checkpoint_does_not_take_the_place_of_the_one_before(tmp_path: Path) -> None:
    """A run that goes on from previous.ckpt by name finds the damaged one where it writes its next."""
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    for path, updates in ((previous, 6), (last, 8)):
        torch.save({"global_step": updates}, path)
    good = last.read_bytes(), previous.read_bytes()
    spoil(last, "short")
    LastCheckpoint()._keep(last)
    assert previous.read_bytes() == good[1]
    last.write_bytes(good[0])
    LastCheckpoint()._keep(last)
    assert previous.read_bytes() == good[0] == last.read_bytes()
