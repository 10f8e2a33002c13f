"""Stages: losses against golden vectors and closed forms, equal draws, and runs that go on bit by bit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from small_world import make_candidates, make_data, make_stage, make_store, make_trainer, wake

from callbacks import BundleWriter, LastCheckpoint
from fluxlight import bundle, flow
from fluxlight.data import MixtureData, PairData
from fluxlight.heads import GlobalAdaLN, InputAdd  # type: ignore[attr-defined]
from fluxlight.stages import CRPO, ExpertIter, crpo_loss
from fluxlight.stages.schedule import Schedule


def test_crpo_loss_is_the_published_one(golden: Path) -> None:
    """Loss, every intermediate and the gradients, on all cases of the golden file."""
    file = json.loads((golden / "crpo_golden.json").read_text())
    assert len(file["cases"]) == 4
    for case in file["cases"]:
        value = {k: torch.tensor(v, dtype=torch.float64) for k, v in case["inputs"].items()}
        value["model_pred_w"].requires_grad_()
        value["model_pred_l"].requires_grad_()
        errors = [
            flow.per_sample_loss(value[f"{who}_pred_{side}"], value[f"target_{side}"])
            for who in ("model", "ref")
            for side in "wl"
        ]
        terms = crpo_loss(*errors, beta=float(case.get("beta_dpo", file["beta_dpo"])))
        expected = case["outputs"]
        for found, name in zip(
            errors, ("model_losses_w", "model_losses_l", "ref_losses_w", "ref_losses_l"), strict=True
        ):
            assert torch.allclose(found.double(), torch.tensor(expected[name], dtype=torch.float64), rtol=1e-5)
        # inside is a difference of nearly equal errors times 1000: fp32 leaves four digits of it
        assert torch.allclose(
            terms.inside.double(), torch.tensor(expected["inside_term"], dtype=torch.float64), rtol=2e-4, atol=2e-3
        )
        assert float(terms.loss) == pytest.approx(expected["loss"], rel=2e-4)
        assert float(terms.preference) == pytest.approx(expected["dpo_term"], rel=2e-4, abs=1e-6)
        assert float(errors[0].mean()) == pytest.approx(expected["fm_winner_term"], rel=1e-5)
        assert float(terms.accuracy) == pytest.approx(expected["implicit_acc"])
        terms.loss.backward()
        for side in "wl":
            grad, want = (
                value[f"model_pred_{side}"].grad,
                torch.tensor(expected[f"grad_model_pred_{side}"], dtype=torch.float64),
            )
            assert grad is not None and torch.allclose(grad, want, rtol=1e-3, atol=1e-3 * float(want.abs().max()))


def test_crpo_starts_at_ln_2_plus_the_winners_error() -> None:
    errors = torch.rand(2, 5)
    terms = crpo_loss(errors[0], errors[1], errors[0], errors[1], lambda_fm=0.7)
    assert float(terms.loss) == pytest.approx(math.log(2) + 0.7 * float(errors[0].mean()), rel=1e-6)
    assert float(terms.accuracy) == 0.0


@pytest.mark.parametrize(
    ("update", "factor"),
    [(0, 1 / 11), (9, 10 / 11), (10, 1.0), (89, 1.0), (90, 0.1), (99, 0.1), (100, 0.01), (109, 0.01)],
)
def test_the_rate_falls_at_80_and_90_percent_after_warm_up(update: int, factor: float) -> None:
    assert Schedule(warmup=10).factor(update, 110) == pytest.approx(factor)
    assert Schedule(warmup=10, decay_at=()).factor(109, 110) == 1.0


def fitted(
    folder: Path, run: str, stage: Any, data: Any, max_steps: int = 8, ckpt: str | None = None, callbacks: Any = ()
) -> Any:
    trainer = make_trainer(folder / run, [*callbacks, BundleWriter(), LastCheckpoint()], max_steps)
    trainer.fit(stage, datamodule=data, ckpt_path=ckpt)
    return trainer


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


def test_the_loss_is_flow_matching_with_both_drops(tmp_path: Path) -> None:
    stage, batch = make_stage(head=GlobalAdaLN), make_data(tmp_path).store.batch([0, 1, 2, 3])
    wake(stage.model)
    stage.model.set_empty(torch.randn(6, 8), torch.randn(5))
    stage._current_fabric = None
    draws = _draws(stage, batch)
    draws.text_coin, draws.score_coin = torch.tensor([0.0, 0.9, 0.9, 0.05]), torch.tensor([0.9, 0.0, 0.9, 0.05])
    losses = stage.sample_losses(batch, draws)
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

    # outside a trainer: epoch 0, process 0
    stage._trainer = types.SimpleNamespace(current_epoch=0, global_rank=0)
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
        after = float(stage.sample_losses(batch, _draws(stage, batch)).mean())
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


def test_crpo_trains_the_policy_and_not_the_reference(tmp_path: Path) -> None:
    make_candidates(tmp_path / "c", make_store(tmp_path / "store"))
    start = make_stage(head=GlobalAdaLN)
    wake(start.model, 0.1)
    start.model.set_latent_statistics(torch.ones(4), 2 * torch.ones(4))
    start.model.set_negative(torch.ones(6, 8), torch.ones(5))
    start.model.set_empty(-torch.ones(6, 8), -torch.ones(5))
    bundle.save_bundle(tmp_path / "start", start.model)
    stage = make_stage(
        CRPO,
        head=InputAdd,
        init_from=str(tmp_path / "start"),
        text_drop=0.0,
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-4),
    )
    first: dict[str, float] = {}
    logged: list[dict[str, float]] = []
    inner = stage.report

    def report(loss: Any, n: int, **more: Any) -> Any:
        logged.append({"loss": float(loss)} | {k: float(v) for k, v in more.items()})
        return inner(loss, n, **more)

    stage.report = report
    trainer = fitted(tmp_path, "crpo", stage, make_data(tmp_path, PairData, pairs=str(tmp_path / "c/pairs.jsonl")))
    first = logged[0]
    assert first["preference"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["loss"] == pytest.approx(math.log(2) + first["error_winner"], rel=1e-6)
    assert first["error"] == pytest.approx(first["error_reference"], rel=1e-6) and first["margin"] == 0.0
    assert logged[-1]["margin"] != 0.0
    reference = stage._reference[0]
    assert not any(k.startswith("_reference") or "reference" in k for k in stage.state_dict())
    assert len(list(stage.parameters())) == len(list(stage.model.parameters()))
    for (name, old), new in zip(start.model.state_dict().items(), reference.state_dict().values(), strict=True):
        assert torch.equal(old, new), name
    assert not any(p.requires_grad for p in reference.parameters())
    changed = [not torch.equal(a, b) for a, b in zip(start.model.parameters(), stage.model.parameters(), strict=True)]
    assert any(changed) and trainer.global_step == 8


def test_crpo_goes_on_with_the_starting_weights_as_reference(tmp_path: Path) -> None:
    """A resumed run must not take its half-trained policy for the reference."""
    make_candidates(tmp_path / "c", make_store(tmp_path / "store"))
    pairs = {"pairs": str(tmp_path / "c/pairs.jsonl")}
    fitted(tmp_path, "run", make_stage(CRPO), make_data(tmp_path, PairData, **pairs), max_steps=4)
    stage = make_stage(CRPO)
    before = {k: v.clone() for k, v in stage.model.named_parameters()}
    fitted(
        tmp_path,
        "run",
        stage,
        make_data(tmp_path, PairData, **pairs),
        max_steps=8,
        ckpt=str(tmp_path / "run/last.ckpt"),
    )
    assert all(torch.equal(before[k], v) for k, v in stage._reference[0].named_parameters())
    assert any(not torch.equal(before[k], v) for k, v in stage.model.named_parameters())


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
