"""A checkpoint knows what it is of: another run's is refused by name, another optimiser's settings are put in."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_world import fitted, make_candidates, make_data, make_stage, make_store, make_trainer

from callbacks import BundleWriter, LastCheckpoint, PowerEMA
from fluxlight.data import LatentStore, MixtureData, PairData
from fluxlight.files import content
from fluxlight.heads import GlobalAdaLN, TextPrepend  # type: ignore[attr-defined]
from fluxlight.stages import CRPO, ExpertIter
from fluxlight.stages.schedule import Schedule


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder with store, slice and a run of four updates."""
    fitted(tmp_path, "run", make_stage(head=GlobalAdaLN), make_data(tmp_path), 4)
    return tmp_path


def go_on(folder: Path, stage: Any = None, data: Any = None, callbacks: Any = (), **trainer: Any) -> Any:
    loop = make_trainer(folder / "run", [BundleWriter(), LastCheckpoint(), *callbacks], **trainer)
    stage, data = stage or make_stage(head=GlobalAdaLN), data or make_data(folder)
    loop.fit(stage, datamodule=data, ckpt_path=str(folder / "run/last.ckpt"))
    return loop


@pytest.mark.parametrize(
    ("stage", "data", "trainer", "says"),
    [
        ({"head": TextPrepend}, {}, {}, "model.head was GlobalAdaLN and is TextPrepend"),
        ({"head": None}, {}, {}, "model.head was GlobalAdaLN and is null"),
        ({"kind": ExpertIter}, {}, {}, "model was ScoreCondSFT and is ExpertIter"),
        ({"seed": 3}, {}, {}, "model.seed was 0 and is 3"),
        ({}, {"seed": 3}, {}, "data.seed was 0 and is 3"),
        ({"stream": "trunk"}, {}, {}, "model.stream was none and is trunk"),
        ({}, {"stream": "trunk"}, {}, "data.stream was none and is trunk"),
        ({}, {"batch_size": 2}, {}, "data.batch_size x devices was 4 and is 2"),
        ({}, {}, {"accumulate_grad_batches": 2}, "trainer.accumulate_grad_batches was 1 and is 2"),
        ({"optimizer": lambda p: torch.optim.SGD(p, lr=1e-2)}, {}, {}, "model.optimizer was AdamW and is SGD"),
        ({}, {}, {"callbacks": [PowerEMA()]}, "averaging in trainer.callbacks was none and is PowerEMA"),
    ],
)
def test_a_run_does_not_go_on_from_another_ones_checkpoint(
    begun: Path, stage: Any, data: Any, trainer: Any, says: str
) -> None:
    settings = {"head": GlobalAdaLN, **stage}
    kind = settings.pop("kind", None)
    before = (begun / "run/last.ckpt").read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint .*last.ckpt is of another run: " + re.escape(says)) as error:
        go_on(begun, make_stage(kind, **settings), make_data(begun, **data), **trainer)
    assert "set it back, or start anew" in str(error.value) and "\n" not in str(error.value)
    assert (begun / "run/last.ckpt").read_bytes() == before


def test_one_changed_latent_of_a_store_is_seen_and_another_place_is_not(begun: Path) -> None:
    """meta.json alone would not tell: it stays as it was."""
    moved = begun / "elsewhere"
    shutil.move(begun / "store", moved / "store")
    shutil.move(begun / "slice", moved / "slice")
    go_on(begun, data=make_data(moved))
    latents = np.load(moved / "store/mean.npy")
    latents[5, 3, 1] += 0.5
    np.save(moved / "store/mean.npy", latents)
    with pytest.raises(ValueError, match="content of data.store was .* and is"):
        go_on(begun, data=make_data(moved))


def test_other_experts_and_other_pairs_are_seen(tmp_path: Path) -> None:
    folder = make_candidates(tmp_path / "c", make_store(tmp_path / "store"))
    experts = {"experts": str(folder / "experts.jsonl")}
    mixture = make_data(tmp_path, MixtureData, **experts)
    assert mixture.content() == make_data(tmp_path, MixtureData, **experts).content()
    assert mixture.content()["rows"] != make_data(tmp_path, MixtureData, oversample=2, **experts).content()["rows"]
    pairs = make_data(tmp_path, PairData, pairs=str(folder / "pairs.jsonl"))
    before = mixture.content(), pairs.content()
    np.save(folder / "latents/0a.npy", np.load(folder / "latents/0a.npy") + 1)
    after = mixture.content(), pairs.content()
    assert before[0]["experts"] != after[0]["experts"] and before[1]["pairs"] != after[1]["pairs"]
    assert before[0]["store"] == after[0]["store"] == LatentStore(tmp_path / "store").checksum


def test_a_large_file_is_told_by_samples_of_its_content(tmp_path: Path) -> None:
    data = bytearray(5 << 20)
    (tmp_path / "a").write_bytes(data)
    first = content(tmp_path / "a", whole=1 << 20, pieces=3)
    for place in (0, len(data) // 2, len(data) - 1):
        (tmp_path / "b").write_bytes(data[:place] + b"x" + data[place + 1 :])
        assert content(tmp_path / "b", whole=1 << 20, pieces=3) != first
    assert content(tmp_path / "a") != first  # whole


def test_an_average_is_never_taken_for_the_weights(tmp_path: Path) -> None:
    """The state_dict of such a checkpoint is the average; one from before origins says so by what it holds."""
    make_data(tmp_path)
    callbacks = [BundleWriter(), LastCheckpoint(), PowerEMA(1.0)]
    make_trainer(tmp_path / "run", callbacks, 4).fit(make_stage(head=GlobalAdaLN), datamodule=make_data(tmp_path))
    with pytest.raises(ValueError, match=r"averaging in trainer.callbacks was PowerEMA\(1\) and is none"):
        go_on(tmp_path)
    with pytest.raises(ValueError, match=r"was PowerEMA\(1\) and is PowerEMA\(3\)"):
        go_on(tmp_path, callbacks=[PowerEMA(3.0)])
    saved = torch.load(tmp_path / "run/last.ckpt", weights_only=True)
    del saved["origin"]
    torch.save(saved, tmp_path / "run/last.ckpt")
    with pytest.raises(ValueError, match="averaging in trainer.callbacks was an average and is none"):
        go_on(tmp_path)


def test_crpo_of_other_starting_weights_is_refused(tmp_path: Path) -> None:
    """The reference is made of them anew when a run goes on."""
    make_candidates(tmp_path / "c", make_store(tmp_path / "store"))
    for number in (1, 2):
        fitted(tmp_path, f"start{number}", make_stage(head=GlobalAdaLN), make_data(tmp_path), 2 * number)
    pairs = {"pairs": str(tmp_path / "c/pairs.jsonl")}
    first, second = (
        make_stage(CRPO, head=GlobalAdaLN, init_from=str(tmp_path / f"start{number}/bundle")) for number in (1, 2)
    )
    fitted(tmp_path, "run", first, make_data(tmp_path, PairData, **pairs), 4)
    with pytest.raises(ValueError, match="content of model.init_from was"):
        go_on(tmp_path, second, make_data(tmp_path, PairData, **pairs))


def test_settings_of_the_optimizer_hold_when_a_run_goes_on(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rate, betas and decay are those of the configuration, from the first update on, and are said by name."""
    rates: list[float] = []
    import lightning as L

    class See(L.Callback):
        def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=5e-4, betas=(0.8, 0.9), weight_decay=0.3)

    schedule = Schedule(warmup=2, decay_at=(0.5,))
    trainer = go_on(begun, make_stage(head=GlobalAdaLN, optimizer=optimizer, schedule=schedule), callbacks=[See()])
    group = trainer.optimizers[0].param_groups[0]
    assert rates == pytest.approx([5e-4 * schedule.factor(update, 8) for update in range(4, 8)])
    assert group["betas"] == (0.8, 0.9) and group["weight_decay"] == 0.3 and group["initial_lr"] == 5e-4
    said = capsys.readouterr().err
    assert "going on with another optimizer: lr 0.0005 (was 0.01)" in said and "weight_decay 0.3" in said
    go_on(begun, make_stage(head=GlobalAdaLN, optimizer=optimizer, schedule=schedule))
    assert "another optimizer" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("trainer", "data", "says"),
    [
        ({"accumulate_grad_batches": 2}, {"batches_per_epoch": 3}, "batches_per_epoch 3 is no multiple of .* 2"),
        ({"accumulate_grad_batches": 2}, {"batches_per_epoch": 1}, "batches_per_epoch 1 is no multiple of .* 2"),
        ({"accumulate_grad_batches": 2, "limit_train_batches": 3}, {"batches_per_epoch": 4}, "limited epoch of 3"),
        ({"accumulate_grad_batches": 0}, {}, "accumulate_grad_batches is 0: an update has at least 1 batch"),
        ({"max_steps": 0}, {}, "trainer.max_steps is 0: nothing would be trained"),
        ({"max_steps": -1, "max_epochs": -1}, {}, "the run would never end"),
        ({"limit_train_batches": 0.1}, {}, "trainer.limit_train_batches is 0.1 of 2 batches, which is none"),
    ],
)
def test_a_run_whose_place_could_not_be_found_is_refused(tmp_path: Path, trainer: Any, data: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_trainer(tmp_path / "run", **trainer).fit(make_stage(), datamodule=make_data(tmp_path, **data))
