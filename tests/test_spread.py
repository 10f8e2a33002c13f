"""The spread of latents: closed forms, pools that add up, and every place where a row, pool or selection says it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_callbacks import woken
from small_world import SmallCodec, make_data, make_stage, make_trainer, wake

from callbacks import CandidateWriter, RenderSlice
from fluxlight.cli import main
from fluxlight.cli.select import main as select
from fluxlight.clips.candidates import load_latents, read_candidates
from fluxlight.clips.folders import rendering_of
from fluxlight.clips.spread import pooled, spread_of
from fluxlight.data.sft import Candidates
from fluxlight.files import read_json, write_json, write_jsonl


def test_the_training_datas_own_law_has_spread_one_and_distance_nought() -> None:
    x = np.random.default_rng(0).normal(size=(40, 60, 8))
    x = (x - x.mean((0, 1))) / x.std((0, 1))
    found = spread_of(x)
    assert found.rms == pytest.approx(1) and found.distance == pytest.approx(0, abs=1e-7)
    wide = spread_of(2 * x + 0.5)
    assert wide.rms == pytest.approx(np.sqrt(4.25)) and wide.distance == pytest.approx(np.sqrt(0.25 + 1))
    assert wide.channels == pytest.approx([np.sqrt(4.25)] * 8) and wide.means == pytest.approx([0.5] * 8)
    fading = x.copy()
    fading[:, 40:] *= 0.5
    assert spread_of(fading).thirds[2] < 0.6 < 0.9 < spread_of(fading).thirds[0]
    # one channel of eight that is silent
    x[..., 3] = 0
    assert spread_of(x).distance == pytest.approx(np.sqrt(1 / 8)) and spread_of(x).channels[3] == 0
    with pytest.raises(ValueError, match="spread: latents have shape"):
        spread_of(x[0])


def test_a_pool_is_made_of_its_rows() -> None:
    x = np.random.default_rng(1).normal(size=(7, 9, 4)) * np.linspace(0.5, 2, 4) + 0.3
    rows = [spread_of(x[k : k + 1]).plain() for k in range(7)]
    found, whole = pooled(rows), spread_of(x)
    assert found is not None and found.clips == 7
    for name in ("rms", "distance", "channels", "means", "thirds"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), rel=1e-3, abs=1e-4)
    assert pooled([*rows, None]) is None and pooled([]) is None


def test_a_row_a_pool_and_a_table_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage, data = woken(), make_data(tmp_path)
    trainer = make_trainer(tmp_path / "run", [RenderSlice(SmallCodec())])
    trainer.validate(stage, datamodule=data, verbose=False)
    folder = tmp_path / "run/slice"
    latents = torch.from_numpy(load_latents(folder, read_candidates(folder)))
    truth = spread_of(stage.model.normalize(latents).numpy())
    logged = {k: float(v) for k, v in trainer.callback_metrics.items()}
    assert logged["val/spread"] == pytest.approx(truth.rms, rel=1e-4)
    assert logged["val/spread_distance"] == pytest.approx(truth.distance, rel=1e-3)
    assert rendering_of(folder)["spread"]["rms"] == pytest.approx(truth.rms, rel=1e-4)
    words = ["evaluate", str(folder), "--prompts", str(tmp_path / "slice"), "--judges", str(world(tmp_path)),
             "--out", str(tmp_path / "table"), "--seconds", "0", "--no-page", "--resamples", "20"]  # fmt: skip
    assert main(words) == 0, capsys.readouterr().err
    table = (tmp_path / "table/table.md").read_text()
    assert "spread's distance" in table and f" {truth.rms:.3f} " in table
    entry = next(iter(read_json(tmp_path / "table/table.json")["tables"].values()))["systems"]["slice"]
    assert entry["spread"]["thirds"] == pytest.approx(list(truth.thirds), rel=1e-3) and "spread" not in entry["info"]


def world(folder: Path) -> Path:
    path = folder / "world.yaml"
    path.write_text(
        "judges:\n  claps:\n    small:\n      class_path: small_world.SmallJudge\n"
        "  rewards:\n    loud:\n      class_path: small_world.SmallReward\n"
    )
    return path


def test_a_pool_of_candidates_and_a_selection_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = make_stage()
    wake(stage.model, 0.1)
    data = make_data(tmp_path, candidates=Candidates(prompts=3, per_prompt=2, batch_size=4))
    make_trainer(tmp_path / "drawn", [CandidateWriter(SmallCodec())]).predict(stage, datamodule=data)
    rows = read_candidates(tmp_path / "drawn")
    whole = pooled([row.extra["spread"] for row in rows])
    assert whole is not None and f"6 candidates: {whole.line()}" in capsys.readouterr().err
    scored = [{**vars(row), "reward": k / 2, "clap": float(k % 2), "error": ""} for k, row in enumerate(rows)]
    write_jsonl(tmp_path / "drawn/scores.jsonl", scored)
    write_json(tmp_path / "slice.json", [{"id": "held", "prompt": "b"}])
    given = ["--candidates", str(tmp_path / "drawn"), "--slice", str(tmp_path / "slice.json")]
    assert select(["experts", *given, "--top", "0.3"]) == 0
    assert select(["pairs", *given]) == 0
    said = capsys.readouterr().out
    experts, pairs = (read_json(tmp_path / f"drawn/{kind}.spread.json") for kind in ("experts", "pairs"))
    assert set(experts) == {"candidates", "experts"} and set(pairs) == {"candidates", "winners", "losers"}
    assert experts["experts"]["clips"] == 2 and pairs["winners"]["clips"] == 3 and experts["candidates"]["clips"] == 6
    assert experts["candidates"]["rms"] == pytest.approx(whole.rms, rel=1e-4)
    best = sorted(scored, key=lambda row: -row["reward"])
    alone = [row["extra"]["spread"] for row in best if row["clap"] == 1][:2]
    assert experts["experts"]["rms"] == pytest.approx(pooled(alone).rms, rel=1e-4)
    assert "experts (2 clips): rms" in said and "losers (3 clips): rms" in said
