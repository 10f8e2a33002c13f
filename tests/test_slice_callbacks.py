"""Rendering and measuring beside training: weights untouched, media in every logger, two processes as good as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from small_callbacks import all_callbacks, woken
from small_world import SmallCodec, make_data, make_stage, make_trainer

from callbacks import (
    RenderSlice,
    SliceMedia,
)
from fluxlight.heads import GlobalAdaLN  # type: ignore[attr-defined]


def test_evaluating_never_changes_the_training_result(tmp_path: Path) -> None:
    states, noise = [], []
    make_data(tmp_path)  # the files, before anything is compared
    for name in ("with", "without"):
        callbacks = all_callbacks(tmp_path) if name == "with" else []
        stage, data = make_stage(head=GlobalAdaLN, render_every=1), make_data(tmp_path)
        torch.manual_seed(7)
        trainer = make_trainer(tmp_path / name, callbacks, max_steps=6)
        if name == "without":
            trainer.limit_val_batches = 0
        trainer.fit(stage, datamodule=data)
        states.append({k: v.clone() for k, v in stage.model.state_dict().items()})
        noise.append(torch.rand(3))
    assert set(states[0]) == set(states[1])
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0]), "bit-identical weights"
    assert torch.equal(*noise), "the global generator was drawn from"
    assert len(list((tmp_path / "with/media").iterdir())) == 6 and not (tmp_path / "without/media").exists()


def test_media_are_files_where_the_logger_cannot_play_them(tmp_path: Path) -> None:
    callbacks = [RenderSlice(SmallCodec()), SliceMedia(ids=["slice-005", "slice-001"])]
    trainer = make_trainer(tmp_path / "run", callbacks)
    trainer.loggers = [CSVLogger(tmp_path / "run")]
    trainer.validate(woken(), datamodule=make_data(tmp_path), verbose=False)
    files = sorted(p.name for p in (tmp_path / "run/media/update-000000").iterdir())
    assert [f.split("_")[0] for f in files] == ["slice-001", "slice-001", "slice-005", "slice-005"]
    assert {Path(f).suffix for f in files} == {".wav", ".jpg"}
    wave = next(p for p in (tmp_path / "run/media/update-000000").glob("slice-005*.wav"))
    assert np.array_equal(soundfile.read(wave)[0], soundfile.read(tmp_path / "run/slice/audio" / wave.name)[0])
    with pytest.raises(ValueError, match="ids nowhere are no prompts"):
        make_trainer(tmp_path / "run", [RenderSlice(SmallCodec()), SliceMedia(ids=["nowhere"])]).validate(
            woken(), datamodule=make_data(tmp_path), verbose=False
        )


def test_media_reach_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-home"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    import wandb

    logger = WandbLogger(save_dir=tmp_path, project="test", offline=True)
    trainer = make_trainer(tmp_path / "run", [RenderSlice(SmallCodec()), SliceMedia(2)])
    trainer.loggers = [logger]
    try:
        trainer.validate(woken(), datamodule=make_data(tmp_path), verbose=False)
        folder = Path(logger.experiment.dir)
    finally:
        wandb.finish()
    kept = [p for p in folder.rglob("media/**/*") if p.is_file()]
    assert len([p for p in kept if p.suffix == ".wav"]) == 2 and len([p for p in kept if p.suffix == ".png"]) == 2
    assert not (tmp_path / "run/media").exists()


def test_media_reach_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    from lightning.pytorch.loggers import TensorBoardLogger

    trainer = make_trainer(tmp_path / "run", [RenderSlice(SmallCodec()), SliceMedia(2)])
    trainer.loggers = [TensorBoardLogger(tmp_path / "tb")]
    trainer.validate(woken(), datamodule=make_data(tmp_path), verbose=False)
    trainer.loggers[0].experiment.flush()
    [events] = (tmp_path / "tb").rglob("events.out.tfevents.*")
    written = events.read_bytes()
    for tag in ("slice/slice-000/audio", "slice/slice-001/spectrogram"):
        assert tag.encode() in written
    assert b"RIFF" in written and b"PNG" in written


TWO = """
import json, os, sys
from pathlib import Path
from lightning.pytorch.strategies import DDPStrategy
from small_world import make_data, make_trainer
from small_callbacks import all_callbacks, woken
from callbacks import BundleWriter

folder = Path(sys.argv[1])
strategy = DDPStrategy(process_group_backend="gloo")
trainer = make_trainer(folder / "two", [*all_callbacks(folder), BundleWriter()], 2, devices=2, strategy=strategy)
trainer.fit(woken(), datamodule=make_data(folder))
found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
(folder / f"rank{trainer.global_rank}.json").write_text(json.dumps([trainer.world_size, found]))
"""


def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    """A fit on two processes renders and measures its last weights; one process measures the same weights."""
    make_data(tmp_path)
    all_callbacks(tmp_path)
    script = tmp_path / "two.py"
    script.write_text(TWO)
    here = Path(__file__).resolve()
    paths = os.pathsep.join([str(here.parent), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert [world for world, _ in said] == [2, 2] and said[0][1] == said[1][1]
    assert len(said[0][1]) == 9

    stage = make_stage(head=GlobalAdaLN, init_from=str(tmp_path / "two/bundle"))
    trainer = make_trainer(tmp_path / "one", all_callbacks(tmp_path))
    trainer.validate(stage, datamodule=make_data(tmp_path), verbose=False)
    alone = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
    assert said[0][1] == pytest.approx(alone, rel=1e-4, abs=1e-5)
    ids = [[json.loads(line)["id"] for line in (tmp_path / run / "slice/candidates.jsonl").read_text().splitlines()]
           for run in ("one", "two")]  # fmt: skip
    assert ids[0] == ids[1] == [f"slice-{k:03d}" for k in range(7)]
    for one in sorted((tmp_path / "one/slice/latents").iterdir()):
        two = next((tmp_path / "two/slice/latents").glob(one.name.rsplit("_", 1)[0] + "_*"))
        assert np.allclose(np.load(one), np.load(two), atol=1e-5)


def test_a_slice_that_is_not_measured_is_rendered_all_the_same(tmp_path: Path) -> None:
    """The chain leaves the measuring of its rows to its table."""
    found = {}
    for name, measured in (("yes", True), ("no", False)):
        trainer = make_trainer(tmp_path / name, all_callbacks(tmp_path))
        trainer.validate(woken(), datamodule=make_data(tmp_path, slice_measured=measured), verbose=False)
        found[name] = {key for key in trainer.callback_metrics if key.startswith("val/")}
    assert found["no"] == {"val/failed", "val/spread", "val/spread_distance"} < found["yes"]
    one, two = ((tmp_path / name / "slice/audio") for name in found)
    assert [p.read_bytes() for p in sorted(one.iterdir())] == [p.read_bytes() for p in sorted(two.iterdir())]
    # what a logger can play it still plays
    assert len(list((tmp_path / "no/media").iterdir())) == len(list((tmp_path / "yes/media").iterdir())) > 0
