"""Preference and policy losses against golden vectors and closed forms, and a reference that no training moves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from small_world import fitted, make_candidates, make_data, make_stage, make_store, wake

from fluxlight import bundle
from fluxlight.data import PairData
from fluxlight.flow import Prediction
from fluxlight.heads import GlobalAdaLN, InputAdd  # type: ignore[attr-defined]
from fluxlight.losses.crpo import CRPOLoss
from fluxlight.losses.dpo import DPOLoss, margin
from fluxlight.losses.nft import NFTLoss
from fluxlight.stages import CRPO, OfflinePolicy


def test_crpo_loss_is_the_published_one(golden: Path) -> None:
    """Loss, every intermediate and the gradients, on all cases of the golden file."""
    file = json.loads((golden / "crpo_golden.json").read_text())
    assert len(file["cases"]) == 4
    for case in file["cases"]:
        value = {k: torch.tensor(v, dtype=torch.float64) for k, v in case["inputs"].items()}
        value["model_pred_w"].requires_grad_()
        value["model_pred_l"].requires_grad_()
        said = [
            Prediction(value[f"{who}_pred_{side}"], value[f"target_{side}"])
            for who in ("model", "ref")
            for side in "wl"
        ]
        errors = [prediction.error for prediction in said]
        beta = float(case.get("beta_dpo", file["beta_dpo"]))
        loss, logs = CRPOLoss(beta=beta)(*said)
        inside = 0.5 * beta * margin(*said)
        expected = case["outputs"]
        for found, name in zip(
            errors, ("model_losses_w", "model_losses_l", "ref_losses_w", "ref_losses_l"), strict=True
        ):
            assert torch.allclose(found.double(), torch.tensor(expected[name], dtype=torch.float64), rtol=1e-5)
        # inside is a difference of nearly equal errors times 1000: fp32 leaves four digits of it
        assert torch.allclose(
            inside.double(), torch.tensor(expected["inside_term"], dtype=torch.float64), rtol=2e-4, atol=2e-3
        )
        assert float(loss) == pytest.approx(expected["loss"], rel=2e-4)
        assert float(logs["preference"]) == pytest.approx(expected["dpo_term"], rel=2e-4, abs=1e-6)
        assert float(errors[0].mean()) == pytest.approx(expected["fm_winner_term"], rel=1e-5)
        assert float(logs["accuracy"]) == pytest.approx(expected["implicit_acc"])
        loss.backward()
        for side in "wl":
            grad, want = (
                value[f"model_pred_{side}"].grad,
                torch.tensor(expected[f"grad_model_pred_{side}"], dtype=torch.float64),
            )
            assert grad is not None and torch.allclose(grad, want, rtol=1e-3, atol=1e-3 * float(want.abs().max()))


def test_crpo_starts_at_ln_2_plus_the_winners_error() -> None:
    winner, loser = (Prediction(*torch.rand(2, 5, 3, 2)) for _ in range(2))
    loss, logs = CRPOLoss(lambda_fm=0.7)(winner, loser, winner, loser)
    assert float(loss) == pytest.approx(math.log(2) + 0.7 * float(winner.error.mean()), rel=1e-6)
    assert float(logs["accuracy"]) == 0.0
    preference, _ = DPOLoss()(winner, loser, winner, loser)
    assert float(preference) == pytest.approx(math.log(2), rel=1e-6)


def test_dpo_is_crpo_without_the_winners_error() -> None:
    said = [Prediction(*torch.rand(2, 5, 3, 2)) for _ in range(4)]
    assert torch.equal(DPOLoss(30.0)(*said)[0], CRPOLoss(30.0, lambda_fm=0.0)(*said)[0])
    better = Prediction(said[0].target, said[0].target)
    assert float(DPOLoss(30.0)(better, *said[1:])[0]) < float(DPOLoss(30.0)(*said)[0])


def test_an_offline_policy_learns_winners_and_unlearns_losers(tmp_path: Path) -> None:
    make_candidates(tmp_path / "c", make_store(tmp_path / "store"))
    stage = make_stage(OfflinePolicy, loss=NFTLoss(beta=0.1), optimizer=lambda p: torch.optim.AdamW(p, lr=3e-3))
    wake(stage.model, 0.1)
    logged: list[dict[str, float]] = []
    inner = stage.report

    def report(loss: Any, n: int, **more: Any) -> Any:
        logged.append({k: float(v) for k, v in more.items()})
        return inner(loss, n, **more)

    stage.report = report
    data = make_data(tmp_path, PairData, pairs=str(tmp_path / "c/pairs.jsonl"))
    fitted(tmp_path, "nft", stage, data, max_steps=40)
    first, last = logged[0], logged[-1]
    assert first["moved"] == first["drift"] == 0.0 and last["moved"] > 0
    ahead = [sum(row["error_loser"] - row["error_winner"] for row in part) for part in (logged[:8], logged[-8:])]
    assert ahead[1] > ahead[0]


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
    reference = stage.reference.model
    assert not any("reference" in k for k in stage.state_dict())
    assert len(list(stage.parameters())) == len(list(stage.model.parameters()))
    for (name, old), new in zip(start.model.state_dict().items(), reference.state_dict().values(), strict=True):
        assert torch.equal(old, new), name
    assert not any(p.requires_grad for p in reference.parameters())
    changed = [not torch.equal(a, b) for a, b in zip(start.model.parameters(), stage.model.parameters(), strict=True)]
    assert any(changed) and trainer.global_step == 8


def test_crpo_goes_on_with_the_starting_weights_as_reference(tmp_path: Path) -> None:
    """A resumed run must not take its half-trained policy for the reference, nor the weights it was made with."""
    make_candidates(tmp_path / "c", make_store(tmp_path / "store"))
    pairs = {"pairs": str(tmp_path / "c/pairs.jsonl")}
    fitted(tmp_path, "run", make_stage(CRPO), make_data(tmp_path, PairData, **pairs), max_steps=4)
    first = make_stage(CRPO)
    before = {k: v.clone() for k, v in first.model.named_parameters()}
    saved = torch.load(tmp_path / "run/last.ckpt", weights_only=True)
    assert all(torch.equal(before[k], v) for k, v in saved["reference"].items() if k in before)
    stage = make_stage(CRPO)
    # another machine may draw other weights: nothing but the checkpoint knows the reference
    wake(stage.model, 0.3)
    fitted(
        tmp_path,
        "run",
        stage,
        make_data(tmp_path, PairData, **pairs),
        max_steps=8,
        ckpt=str(tmp_path / "run/last.ckpt"),
    )
    assert all(torch.equal(before[k], v) for k, v in stage.reference.model.named_parameters())
    assert any(not torch.equal(before[k], v) for k, v in stage.model.named_parameters())


def test_a_reference_that_init_from_gives_back_is_not_saved(tmp_path: Path) -> None:
    make_candidates(tmp_path / "c", make_store(tmp_path / "store"))
    data = make_data(tmp_path, PairData, pairs=str(tmp_path / "c/pairs.jsonl"))
    fitted(tmp_path, "first", make_stage(CRPO), data, max_steps=4)
    fitted(tmp_path, "second", make_stage(CRPO, init_from=str(tmp_path / "first/bundle")), data, max_steps=4)
    assert "reference" not in torch.load(tmp_path / "second/last.ckpt", weights_only=True)
