"""A run that goes on ends in the bytes of one that was never stopped, and two processes in the weights of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import load_file
from small_world import SmallCodec, make_candidates, make_data, make_stage, make_store, make_trainer

from callbacks import BundleWriter, LastCheckpoint, PowerEMA, RenderSlice
from fluxlight.data import MixtureData, PairData, SFTData
from fluxlight.heads import GlobalAdaLN  # type: ignore[attr-defined]
from fluxlight.stages import CRPO, ExpertIter, OfflinePolicy, ScoreCondSFT


class Killed(Exception):
    """Ends a run where a signal would."""


class Kill(L.Callback):
    """Ends the run after update ``at``."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.at:
            raise Killed


STAGES: dict[str, tuple[Any, Any]] = {
    "sft": (ScoreCondSFT, SFTData), "experts": (ExpertIter, MixtureData), "crpo": (CRPO, PairData),
    "policy": (OfflinePolicy, PairData),
}  # fmt: skip


def data_of(folder: Path, kind: Any, **settings: Any) -> Any:
    """Data of a stage, with what was selected for it."""
    if kind is not SFTData and not (folder / "c").exists():
        make_candidates(folder / "c", make_store(folder / "store") if not (folder / "store").exists() else folder)
    chosen = {MixtureData: {"experts": "experts"}, PairData: {"pairs": "pairs"}}.get(kind, {})
    given = {key: str(folder / "c" / f"{name}.jsonl") for key, name in chosen.items()}
    return make_data(folder, kind, **given, **settings)


def fit(
    folder: Path, run: str, stage: str, updates: int = 12, ckpt: bool = False, kill: int = 0, more: Any = (),
    data: dict[str, Any] | None = None, settings: dict[str, Any] | None = None, **trainer: Any,
) -> bytes:  # fmt: skip
    """The weights of a run to its end; of one that is killed, nothing."""
    kind, data_kind = STAGES[stage]
    module = make_stage(kind, head=GlobalAdaLN, **(settings or {}))
    callbacks = [RenderSlice(SmallCodec()), BundleWriter(), LastCheckpoint(), *more, *([Kill(kill)] if kill else [])]
    loop = make_trainer(folder / run, callbacks, updates, **trainer)
    path = str(folder / run / "last.ckpt") if ckpt else None
    where = data_of(folder, data_kind, **{"batches_per_epoch": 6, **(data or {})})
    if kill:
        with pytest.raises(Killed):
            loop.fit(module, datamodule=where, ckpt_path=path)
        return b""
    loop.fit(module, datamodule=where, ckpt_path=path)
    return (folder / run / "bundle/weights.safetensors").read_bytes()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("validates", [False, True])
@pytest.mark.parametrize(("accumulate", "workers"), [(1, 0), (3, 0), (2, 1)])
def test_a_killed_run_ends_in_the_bytes_of_an_undisturbed_one(
    tmp_path: Path, stage: str, validates: bool, accumulate: int, workers: int
) -> None:
    updates = 12 // accumulate
    more: dict[str, Any] = {"accumulate_grad_batches": accumulate, "data": {"num_workers": workers}}
    more |= {} if validates else {"limit_val_batches": 0}
    whole = fit(tmp_path, "whole", stage, updates, **more)
    fit(tmp_path, "cut", stage, updates, kill=9 // accumulate, **more)
    assert torch.load(tmp_path / "cut/last.ckpt", weights_only=True)["global_step"] == 6 // accumulate
    torch.manual_seed(77)
    assert fit(tmp_path, "cut", stage, updates, ckpt=True, **more) == whole
    assert (tmp_path / "whole/slice").exists() == validates
    checkpoints = [torch.load(tmp_path / run / "last.ckpt", weights_only=True) for run in ("whole", "cut")]
    assert checkpoints[0]["loops"] == checkpoints[1]["loops"] and checkpoints[0]["origin"] == checkpoints[1]["origin"]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"data": {"batches_per_epoch": 2}}, {"data": {"batches_per_epoch": 3}}),
        ({"data": {"batches_per_epoch": 2}}, {"data": {"batches_per_epoch": 6}}),
        ({"data": {"batches_per_epoch": 2}}, {"data": {"batches_per_epoch": 2, "num_workers": 1}}),
        ({"limit_train_batches": 4}, {"limit_train_batches": 5}),
        ({"data": {"batches_per_epoch": 2}, "max_epochs": 99}, {"data": {"batches_per_epoch": 2}, "max_epochs": 6}),
    ],
)
def test_the_length_of_an_epoch_and_the_workers_do_not_move_the_run(tmp_path: Path, first: Any, then: Any) -> None:
    """It goes on in the middle of an epoch of another length, and the draws stay those it began with."""
    whole = fit(tmp_path, "whole", "sft", **first)
    fit(tmp_path, "cut", "sft", kill=5, **first)
    assert fit(tmp_path, "cut", "sft", ckpt=True, **then) == whole


def test_a_run_ended_by_epochs_ends_there_again(tmp_path: Path) -> None:
    """`max_epochs` alone: the schedule needs the length of the run before a checkpoint has said where it goes on."""
    more: dict[str, Any] = {"max_epochs": 4, "data": {"batches_per_epoch": 3, "num_workers": 1}}
    whole = fit(tmp_path, "whole", "sft", -1, **more)
    fit(tmp_path, "cut", "sft", -1, kill=8, **more)
    assert fit(tmp_path, "cut", "sft", -1, ckpt=True, **more) == whole
    assert torch.load(tmp_path / "cut/last.ckpt", weights_only=True)["global_step"] == 12


class Break(RenderSlice):
    """Fails where clips are written."""

    def _write(self, run: Path, stage: Any, step: int, everything: list[Any]) -> None:
        raise Killed


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("every", [0, 4])
def test_a_rendering_that_fails_costs_no_update(tmp_path: Path, every: int, average: bool) -> None:
    more: dict[str, Any] = {"settings": {"render_every": every}, "data": {"batches_per_epoch": 4}}

    def averages() -> list[L.Callback]:
        return [PowerEMA(1.0)] if average else []

    whole = fit(tmp_path, "whole", "sft", more=averages(), **more)
    callbacks = [Break(SmallCodec()), BundleWriter(), LastCheckpoint(), *averages()]
    with pytest.raises(Killed):
        stage = make_stage(head=GlobalAdaLN, **more["settings"])
        make_trainer(tmp_path / "cut", callbacks, 12).fit(stage, datamodule=make_data(tmp_path, **more["data"]))
    stopped = torch.load(tmp_path / "cut/last.ckpt", weights_only=True)["global_step"]
    assert stopped == (every or 12) and not (tmp_path / "cut/bundle").exists()
    assert fit(tmp_path, "cut", "sft", ckpt=True, more=averages(), **more) == whole
    for name in ("slice/candidates.jsonl", *(["bundle/ema.safetensors"] if average else [])):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_overfitting_sees_the_same_rows_again(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    class See(L.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            seen.append(batch.index.tolist())

    fit(tmp_path, "run", "sft", 6, overfit_batches=2, more=[See()])
    assert seen == seen[:2] * 3 and seen[0] != seen[1]


TWO = """
import sys
from pathlib import Path
from lightning.pytorch.strategies import DDPStrategy
from small_world import make_data, make_stage, make_trainer
from callbacks import BundleWriter
from fluxlight.heads import GlobalAdaLN

folder = Path(sys.argv[1])
strategy = DDPStrategy(process_group_backend="gloo", find_unused_parameters=True)
trainer = make_trainer(folder / "two", [BundleWriter()], devices=2, strategy=strategy, limit_val_batches=0)
trainer.fit(make_stage(head=GlobalAdaLN), datamodule=make_data(folder, batch_size=4))
"""


def test_two_processes_of_four_clips_train_what_one_of_eight_does(tmp_path: Path) -> None:
    make_data(tmp_path)
    trainer = make_trainer(tmp_path / "one", [BundleWriter()], limit_val_batches=0)
    trainer.fit(make_stage(head=GlobalAdaLN), datamodule=make_data(tmp_path, batch_size=8))
    (tmp_path / "two.py").write_text(TWO)
    here = Path(__file__).resolve()
    paths = os.pathsep.join([str(here.parent), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(tmp_path / "two.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (load_file(tmp_path / run / "bundle/weights.safetensors") for run in ("one", "two"))
    start = dict(make_stage(head=GlobalAdaLN).model.named_parameters())
    moved = max(float((one[name] - start[name]).abs().max()) for name in start)
    apart = max(float((one[name] - two[name]).abs().max()) for name in start)
    assert apart < 1e-3 * moved, (apart, moved)
