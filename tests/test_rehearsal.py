"""Before training: what a rendering needs is tried, and what spoils a loss is named; more processes than prompts."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_world import SmallCodec, SmallJudge, SmallReward, make_candidates, make_data, make_stage, make_trainer

from callbacks import BundleWriter, CLAPCallback, LastCheckpoint, RenderSlice, RewardCallback
from fluxlight.data import MixtureData, PairData
from fluxlight.files import atomic_path, read_jsonl
from fluxlight.heads import GlobalAdaLN  # type: ignore[attr-defined]
from fluxlight.stages import CRPO, ExpertIter


class Absent(Exception):
    """What a missing part raises."""


def broken(kind: type, method: str) -> Any:
    """A part of `small_world` one of whose methods is of no use."""

    def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise Absent(method)

    return type(kind.__name__, (kind,), {method: fail})()


def no_separation(clip: Any) -> Any:
    raise Absent("postprocess")


@pytest.mark.parametrize(
    "callbacks",
    [
        [RenderSlice(broken(SmallCodec, "decode"))],
        [RenderSlice(SmallCodec(), [no_separation])],
        [RenderSlice(SmallCodec()), CLAPCallback(broken(SmallJudge, "embed_audio"))],
        [RenderSlice(SmallCodec()), RewardCallback(broken(SmallReward, "score"))],
    ],
)
def test_what_a_rendering_lacks_is_found_before_the_first_update(tmp_path: Path, callbacks: list[Any]) -> None:
    trainer = make_trainer(tmp_path / "run", [*callbacks, BundleWriter(), LastCheckpoint()])
    with pytest.raises(Absent):
        trainer.fit(make_stage(), datamodule=make_data(tmp_path))
    assert trainer.global_step == 0 and not (tmp_path / "run/slice").exists()
    # a run that renders nothing needs none of it
    again = make_trainer(tmp_path / "run", [*callbacks, BundleWriter(), LastCheckpoint()], limit_val_batches=0)
    again.fit(make_stage(), datamodule=make_data(tmp_path))


def test_a_rehearsal_moves_no_weight(tmp_path: Path) -> None:
    weights = []
    for name, callbacks in (("plain", []), ("tried", [RenderSlice(SmallCodec()), CLAPCallback(SmallJudge())])):
        trainer = make_trainer(tmp_path / name, [*callbacks, BundleWriter()])
        trainer.fit(make_stage(), datamodule=make_data(tmp_path))
        weights.append((tmp_path / name / "bundle/weights.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_a_text_of_the_slice_that_is_not_finite_is_named_before_training(tmp_path: Path) -> None:
    make_data(tmp_path)
    texts = np.load(tmp_path / "slice/text_c.npy")
    texts[4] = np.nan  # 0 and 1 are the empty and the negative text
    np.save(tmp_path / "slice/text_c.npy", texts)
    trainer = make_trainer(tmp_path / "run")
    with pytest.raises(ValueError, match="the text of slice-002 is not finite"):
        trainer.fit(make_stage(), datamodule=make_data(tmp_path))
    assert trainer.global_step == 0


def spoil(path: Path) -> None:
    values = np.load(path)
    values[(1,) * values.ndim] = np.nan
    np.save(path, values)


@pytest.mark.parametrize("kind", ["store", "experts", "pairs"])
def test_a_latent_that_is_not_finite_is_named_by_its_clip(tmp_path: Path, kind: str) -> None:
    make_data(tmp_path)
    make_candidates(tmp_path / "c", tmp_path / "store")
    spoil(tmp_path / ("store/mean.npy" if kind == "store" else "c/latents/2a.npy"))
    stage: Any = {"store": None, "experts": ExpertIter, "pairs": CRPO}[kind]
    data_kind: Any = {"store": None, "experts": MixtureData, "pairs": PairData}[kind]
    more = {} if kind == "store" else {kind: str(tmp_path / f"c/{kind}.jsonl")}
    says = {
        "store": "the latent of clip train-001 in store", "experts": "the latent of line 3 of .*experts.jsonl",
        "pairs": "the latent of line 3 of .*pairs.jsonl",
    }[kind]  # fmt: skip
    with pytest.raises(ValueError, match=f"train/loss is nan at update \\d+: {says}.* is not finite"):
        make_trainer(tmp_path / "run", limit_val_batches=0, max_steps=20).fit(
            make_stage(stage, head=GlobalAdaLN), datamodule=make_data(tmp_path, data_kind, **more)
        )


@pytest.mark.parametrize("kept", [False, True])
def test_a_rate_that_is_too_high_says_what_is_kept(tmp_path: Path, kept: bool) -> None:
    stage = make_stage(optimizer=lambda p: torch.optim.AdamW(p, lr=1e30))
    callbacks = [LastCheckpoint()] if kept else []
    says = "last.ckpt is kept" if kept else "there is no checkpoint yet"
    with pytest.raises(ValueError, match=f"lower the learning rate; .*{says}"):
        make_trainer(tmp_path / "run", callbacks).fit(stage, datamodule=make_data(tmp_path, batches_per_epoch=1))


def test_a_full_disk_names_what_was_to_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError) as error, atomic_path(tmp_path / "last.ckpt"):
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/whatever-a-library-chose")
    assert error.value.filename == str(tmp_path / "last.ckpt") and error.value.errno == errno.ENOSPC


def test_a_full_disk_is_one_whatever_a_writer_calls_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch says "unexpected pos", safetensors "I/O error", libsndfile "System error"."""
    for free, kind in ((1 << 30, RuntimeError), (100, OSError)):
        monkeypatch.setattr("shutil.disk_usage", lambda path, free=free: shutil._ntuple_diskusage(free, 0, free))
        with pytest.raises(kind) as error, atomic_path(tmp_path / "last.ckpt") as path:
            torch.save(torch.zeros(9), path / "no" / "folder")
        assert kind is RuntimeError or error.value.filename == str(tmp_path / "last.ckpt")
        assert not list(tmp_path.iterdir())


TWO = """
import json, sys
from pathlib import Path
from lightning.pytorch.strategies import DDPStrategy
from small_world import SmallCodec, SmallJudge, SmallReward, make_data, make_stage, make_trainer
from callbacks import BundleWriter, CLAPCallback, CandidateWriter, LastCheckpoint, RenderSlice, RewardCallback
from fluxlight.data import Candidates

folder = Path(sys.argv[1])
strategy = DDPStrategy(process_group_backend="gloo")
callbacks = [RenderSlice(SmallCodec()), CLAPCallback(SmallJudge()), RewardCallback(SmallReward()), BundleWriter()]
trainer = make_trainer(folder / "two", [*callbacks, LastCheckpoint()], 2, devices=2, strategy=strategy)
trainer.fit(make_stage(), datamodule=make_data(folder, slice_clips=1))
found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
(folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(found))
few, strategy = Candidates(prompts=1, per_prompt=1), DDPStrategy(process_group_backend="gloo")
trainer = make_trainer(folder / "few", [CandidateWriter(SmallCodec())], devices=2, strategy=strategy)
trainer.predict(make_stage(), datamodule=make_data(folder, candidates=few), return_predictions=False)
"""


def test_more_processes_than_prompts(tmp_path: Path) -> None:
    """One prompt and two processes: the one without takes part in what all do together."""
    make_data(tmp_path)
    (tmp_path / "two.py").write_text(TWO)
    here = Path(__file__).resolve()
    paths = os.pathsep.join([str(here.parent), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(tmp_path / "two.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert set(first) == {"val/failed", "val/clap", "val/reward", "val/spread", "val/spread_distance"}
    assert len(read_jsonl(tmp_path / "two/slice/candidates.jsonl")) == 1
    assert len(read_jsonl(tmp_path / "few/candidates.jsonl")) == 1
