"""TuneJuryRanker from the command line: RankNet on files of pairs, its numbers, the head it leaves, bad files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fluxlight.cli import main
from fluxlight.files import read_json
from fluxlight.rewards import TuneJury
from fluxlight.rewards.calibration import anchor_calibration, expected_calibration_error, pair_accuracy
from fluxlight.rewards.pairs import FeaturePairs
from fluxlight.rewards.preferences import Preferences

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "rewards" / "tunejury.yaml"
BIAS = {"x": 0.0, "y": 1.0, "z": -1.0}


def pairs(count: int, seed: int) -> Preferences:
    """Listeners who like the first input, vote by Bradley-Terry, and call close pairs a tie."""
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, count, 512, generator=draw)
    names = [[list(BIAS)[i] for i in side] for side in torch.randint(0, 3, (2, count), generator=draw).tolist()]
    margin = 3 * (a[:, 0] - b[:, 0])
    target = (torch.rand(count, generator=draw) < torch.sigmoid(margin)).float()
    target[margin.abs() < 0.3] = 0.5
    return Preferences(FeaturePairs(a, b, target), *names)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranker")
    for name, count in (("train", 2049), ("val", 300)):
        pairs(count, count).save(folder / f"{name}.safetensors")
    words = ["--data.train", str(folder / "train.safetensors"), "--data.val", str(folder / "val.safetensors"),
             "--model.head.inputs", "[[clap_audio, 512]]", "--model.head.widths", "[64, 32]", "--model.anchor", "x",
             "--model.optimizer.lr", "1e-3", "--data.batch_size", "64", "--trainer.max_epochs", "6",
             "--trainer.default_root_dir", str(folder / "run")]  # fmt: skip
    assert main(["fit", "--config", str(CONFIG), *words], standalone=False) == 0
    return folder


def test_the_head_learns_and_is_the_best_of_the_run(run: Path) -> None:
    with next((run / "run").rglob("metrics.csv")).open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    assert len(rows) == 6 and {"val/accuracy", "val/ece", "val/loss"} <= set(rows[0])
    facts = read_json(run / "run" / "tunejury.json")
    best = min(rows, key=lambda row: float(row["val/loss"]))
    # the numbers of the file are those of the best epoch, which the log has
    assert facts["accuracy"] == pytest.approx(float(best["val/accuracy"]), abs=1e-5) and facts["accuracy"] > 0.7
    assert facts["ece"] == pytest.approx(float(best["val/ece"]), abs=1e-5)


def test_the_file_is_a_released_layout_and_says_what_its_facts_say(run: Path) -> None:
    head = TuneJury.from_file(run / "run" / "tunejury.safetensors")
    assert head.inputs == (("clap_audio", 512),) and head.widths == (64, 32) and not head.training
    known, facts = Preferences.load(run / "val.safetensors"), read_json(run / "run" / "tunejury.json")
    with torch.no_grad():
        a, b = head(known.pairs.a), head(known.pairs.b)
    ties = int((known.pairs.target == 0.5).sum())
    assert 0 < ties and facts["pairs_without_ties"] == 300 - ties
    assert facts["accuracy"] == pytest.approx(pair_accuracy(a - b, known.pairs.target)[0])
    assert facts["ece"] == pytest.approx(expected_calibration_error(a - b, known.pairs.target, bins=10))
    expected = anchor_calibration(a, b, known.system_a, known.system_b, known.pairs.target, "x")
    assert facts["bias"] == pytest.approx(expected) and facts["bias"]["x"] == 0.0 and set(facts["bias"]) == set(BIAS)


def test_what_is_wrong_is_one_line_before_training(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    val, bad = run / "val.safetensors", run / "bad.safetensors"

    def said(train: Path, *more: str) -> str:
        words = ["--data.train", str(train), "--data.val", str(val), "--trainer.default_root_dir", str(run / "none")]
        assert main(["fit", "--config", str(CONFIG), "--model.head.inputs", "[[clap_audio, 512]]", *words, *more]) == 2
        err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fluxlight")]
        assert len(err) == 1 and not list((run / "none").rglob("tunejury.*"))
        return err[0]

    assert "no preference pairs at" in said(run / "nowhere.safetensors")
    bad.write_bytes(b"no safetensors")
    assert "cannot be read as preference pairs" in said(bad)
    save_file({"a": torch.zeros(3, 512), "b": torch.zeros(3, 512), "target": torch.zeros(2)}, bad)
    assert "expected a and b (P, F) and target (P,)" in said(bad)
    save_file({"a": torch.zeros(3, 512), "b": torch.zeros(3, 512), "target": torch.full((3,), 2.0)}, bad)
    assert "target lies outside 0 to 1" in said(bad)
    save_file({"a": torch.full((3, 512), torch.nan), "b": torch.zeros(3, 512), "target": torch.zeros(3)}, bad)
    assert "a holds NaN" in said(bad)
    assert "anchor 'w' made none" in said(val, "--model.anchor", "w")
