"""Stages: losses against closed forms, equal draws, runs that go on bit by bit, and where they start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_world import fitted, make_candidates, make_data, make_stage, make_store, make_trainer, wake

from fluxlight import bundle, flow
from fluxlight.data import MixtureData
from fluxlight.heads import GlobalAdaLN, InputAdd  # type: ignore[attr-defined]
from fluxlight.stages import ExpertIter
from fluxlight.stages.schedule import Schedule


@pytest.mark.parametrize(
    ("update", "factor"),
    [(0, 1 / 11), (9, 10 / 11), (10, 1.0), (89, 1.0), (90, 0.1), (99, 0.1), (100, 0.01), (109, 0.01)],
)
def test_the_rate_falls_at_80_and_90_percent_after_warm_up(update: int, factor: float) -> None:
    assert Schedule(warmup=10).factor(update, 110) == pytest.approx(factor)
    assert Schedule(warmup=10, decay_at=()).factor(109, 110) == 1.0


class Recorder:
    """Keeps what a stage saw in its batches."""

    def __init__(self, stage: Any) -> None:
        self.seen: list[tuple[list[int], float, float]] = []
        inner = stage.draws

        def draws(shape: Any, batch_idx: int) -> Any:
            made = inner(shape, batch_idx)
            self.seen.append(
                (self.rows, float(made.noise.sum()), float(made.t.sum() + made.text_coin.sum() + made.score_coin.sum()))
            )
            return made

        step = stage.training_step

        def training_step(batch: Any, batch_idx: int) -> Any:
            self.rows = batch.index.tolist()
            return step(batch, batch_idx)

        stage.draws, stage.training_step = draws, training_step


def test_rows_0_and_1_see_the_same_data_noise_and_coins(tmp_path: Path) -> None:
    seen = []
    for name, head in (("zero", None), ("one", GlobalAdaLN)):
        stage = make_stage(head=head)
        record = Recorder(stage)
        torch.manual_seed(hash(name) % 1000)  # what else was drawn before must not matter
        fitted(tmp_path, name, stage, make_data(tmp_path))
        seen.append(record.seen)
    assert seen[0] == seen[1] and len(seen[0]) == 8
    assert len({noise for _, noise, _ in seen[0]}) == 8


def test_the_trunk_shares_neither_rows_nor_draws_with_what_follows_it(tmp_path: Path) -> None:
    seen = []
    for stream in ("trunk", "sft"):
        stage = make_stage(stream=stream)
        record = Recorder(stage)
        fitted(tmp_path, stream, stage, make_data(tmp_path, stream=stream))
        seen.append(record.seen)
    trunk, row = ([set(values) for values in zip(*((tuple(a), b, c) for a, b, c in one), strict=True)] for one in seen)
    assert not any(mine & other for mine, other in zip(trunk, row, strict=True))


def test_the_loss_is_flow_matching_with_both_drops(tmp_path: Path) -> None:
    stage, batch = make_stage(head=GlobalAdaLN), make_data(tmp_path).store.batch([0, 1, 2, 3])
    wake(stage.model)
    stage.model.set_empty(torch.randn(6, 8), torch.randn(5))
    stage._current_fabric = None
    draws = _draws(stage, batch)
    draws.text_coin, draws.score_coin = torch.tensor([0.0, 0.9, 0.9, 0.05]), torch.tensor([0.9, 0.0, 0.9, 0.05])
    losses = stage.predict(batch, draws).error
    for row in range(4):
        text = batch.text[row : row + 1], batch.text_c[row : row + 1]
        if draws.text_coin[row] < 0.1:
            text = stage.model.backbone.empty_string_feat[None], stage.model.backbone.empty_string_feat_c[None]
        score = None if draws.score_coin[row] < 0.1 else batch.score[row : row + 1]
        x1 = stage.model.normalize(batch.mean + batch.std * draws.posterior)[row : row + 1]
        x0, t = draws.noise[row : row + 1], draws.t[row : row + 1]
        from fluxlight.types import Condition

        velocity = stage.model.velocity((1 - t) * x1 + t * x0, t, Condition(*text), score)
        assert float(losses[row].detach()) == pytest.approx(float((velocity - (x0 - x1)).square().mean()), rel=1e-4)


def _draws(stage: Any, batch: Any) -> Any:
    import types

    # the first batch of a run in one process
    stage._trainer = types.SimpleNamespace(
        global_step=0, accumulate_grad_batches=1, global_rank=0, world_size=1, num_training_batches=1
    )
    return stage.draws(batch.mean.shape, 0)


def test_training_learns(tmp_path: Path) -> None:
    """On four clips the loss must fall well below that of a model that always answers 0."""
    make_store(tmp_path / "store", n=4)
    stage = make_stage(text_drop=0.0, optimizer=lambda p: torch.optim.AdamW(p, lr=5e-3))
    data = make_data(tmp_path, batches_per_epoch=150)
    batch = data.store.batch([0, 1, 2, 3])
    trainer = make_trainer(tmp_path / "run", max_steps=150, limit_val_batches=0)
    trainer.fit(stage, datamodule=data)
    with torch.no_grad():
        after = float(stage.predict(batch, _draws(stage, batch)).error.mean())
        zero = float(
            flow.per_sample_loss(
                torch.zeros_like(batch.mean), flow.target(stage.model.normalize(batch.mean), _draws(stage, batch).noise)
            ).mean()
        )
    assert after < 0.75 * zero


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_bit_by_bit(tmp_path: Path) -> None:
    """Eight updates at once, and eight with a kill in the third epoch, end in the same bytes."""
    import lightning

    class Kill(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            if trainer.global_step == 5:
                raise Killed

    fitted(tmp_path, "whole", make_stage(head=GlobalAdaLN), make_data(tmp_path))
    with pytest.raises(Killed):
        fitted(tmp_path, "cut", make_stage(head=GlobalAdaLN), make_data(tmp_path), callbacks=[Kill()])
    assert not (tmp_path / "cut/bundle").exists()
    torch.manual_seed(77)
    fitted(tmp_path, "cut", make_stage(head=GlobalAdaLN), make_data(tmp_path), ckpt=str(tmp_path / "cut/last.ckpt"))
    whole, cut = (tmp_path / f"{name}/bundle/weights.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()
    a, b = (torch.load(tmp_path / f"{name}/last.ckpt", weights_only=True) for name in ("whole", "cut"))
    moments = [[s["exp_avg"] for s in c["optimizer_states"][0]["state"].values()] for c in (a, b)]
    assert all(torch.equal(x, y) for x, y in zip(*moments, strict=True)) and a["global_step"] == b["global_step"] == 8


def test_expert_iteration_trains_on_both_and_tells_them_apart(tmp_path: Path) -> None:
    make_candidates(tmp_path / "c", make_store(tmp_path / "store"))
    data = make_data(tmp_path, MixtureData, experts=str(tmp_path / "c/experts.jsonl"), batch_size=8)
    trainer = fitted(tmp_path, "run", make_stage(ExpertIter, head=GlobalAdaLN), data)
    assert {"train/loss", "train/loss_experts", "train/loss_corpus"} <= trainer.callback_metrics.keys()


def test_a_stage_starts_from_its_store_or_from_its_bundle(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    stage = make_stage(head=GlobalAdaLN, score_quantile=0.99)
    fitted(tmp_path, "run", stage, data)
    assert torch.allclose(stage.model.backbone.latent_mean.flatten(), data.store.statistics[0])
    assert torch.equal(stage.model.backbone.empty_string_feat, data.store.empty[0]) and bool(
        stage.model.negative_stored
    )
    assert stage.sampler.score == pytest.approx(data.store.score_quantile(0.99))
    # another store, but the statistics that the weights were trained with
    make_store(tmp_path / "other" / "store", n=9)
    second = make_stage(head=InputAdd, init_from=str(tmp_path / "run/bundle"))
    fitted(tmp_path / "other", "run", second, make_data(tmp_path / "other"))
    assert torch.equal(second.model.backbone.latent_mean, stage.model.backbone.latent_mean)


@pytest.mark.parametrize("global_text", [True, False])
def test_a_published_file_is_a_start_with_the_negative_text_of_the_store(tmp_path: Path, global_text: bool) -> None:
    """It has statistics and empty text of its own, but no negative text: not to fall back to the empty one."""
    source, data = make_stage().model, make_data(tmp_path)
    wake(source)
    source.set_latent_statistics(torch.ones(4), 2 * torch.ones(4))
    source.set_empty(torch.full((6, 8), 0.5), torch.full((5,), 0.25))
    state = bundle.export_published(source)
    if not global_text:
        del state["empty_string_feat_c"]
    torch.save(state, tmp_path / "published.pth")
    stage = make_stage(init_from=str(tmp_path / "published.pth"))
    make_trainer(tmp_path / "run").validate(stage, datamodule=data, verbose=False)
    assert bool(stage.model.negative_stored)
    assert torch.equal(stage.model.negative_feat, data.store.negative[0])
    assert torch.equal(stage.model.negative_feat_c, data.store.negative[1])
    backbone = stage.model.backbone
    assert torch.equal(backbone.latent_std, source.backbone.latent_std)
    assert torch.equal(backbone.empty_string_feat, source.backbone.empty_string_feat)
    expected = source.backbone.empty_string_feat_c if global_text else data.store.empty[1]
    assert torch.equal(backbone.empty_string_feat_c, expected)


@pytest.mark.parametrize(
    ("settings", "data_settings", "max_steps", "says"),
    [
        ({}, {"batches_per_epoch": 3}, 8, "is 8, no multiple of data.batches_per_epoch 3"),
        ({"head": GlobalAdaLN}, {"scores": False}, 8, "no scores but the model has a head"),
        ({"score_drop": 2.0}, {}, 8, "score_drop is 2.0"),
        ({"init_from": "nowhere"}, {}, 8, "nowhere is no bundle"),
    ],
)
def test_what_cannot_be_trained_says_so(
    tmp_path: Path, settings: Any, data_settings: Any, max_steps: int, says: str
) -> None:
    if not (data_settings := dict(data_settings)).pop("scores", True):
        make_store(tmp_path / "store", score=False)
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        fitted(tmp_path, "run", make_stage(**settings), make_data(tmp_path, **data_settings), max_steps)


def test_sizes_of_store_and_backbone_must_agree(tmp_path: Path) -> None:
    from fluxlight.backbone import FluxAudio
    from fluxlight.stages import ScoreCondSFT

    backbone = FluxAudio(
        4, 8, 7, hidden_dim=16, depth=2, fused_depth=1, num_heads=2, latent_seq_len=12, text_seq_len=6, ffn_multiple=8
    )
    with pytest.raises(ValueError, match="text_c_dim is 7, store .* has 5: make them equal"):
        fitted(tmp_path, "run", ScoreCondSFT(backbone), make_data(tmp_path))
