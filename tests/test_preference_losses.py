"""Preference losses against their formulas in float64, and the stage that trains with any of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from small_world import fitted, make_candidates, make_data, make_stage, make_store, make_world, wake

import fluxlight.losses
from fluxlight.cli import main
from fluxlight.data import PairData
from fluxlight.data.pairs import kept_out
from fluxlight.files import read_jsonl, write_jsonl
from fluxlight.flow import Prediction
from fluxlight.losses.base import DEAD, LIVELY, PreferenceLoss
from fluxlight.losses.dpo import DPOLoss
from fluxlight.losses.ipo import IPOLoss
from fluxlight.losses.kto import KTOLoss
from fluxlight.losses.linear_dpo import LinearDPOLoss
from fluxlight.losses.mapo import MaPOLoss
from fluxlight.losses.sdpo import SDPOLoss, safe_share
from fluxlight.stages import CRPO, Preference

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
N, SHAPE = 5, (5, 3, 4)
LOSSES: dict[str, PreferenceLoss] = {
    "linear": LinearDPOLoss(4.0, floor=0.1), "ipo": IPOLoss(3.0), "sdpo": SDPOLoss(4.0), "mapo": MaPOLoss(0.3, 20.0),
    "kto": KTOLoss(2.0), "dpo": DPOLoss(4.0),
}  # fmt: skip


def said(seed: int = 0) -> tuple[list[Prediction], list[np.ndarray]]:
    """Winner, loser and what the reference says of them, with their errors in float64."""
    draw = torch.Generator().manual_seed(seed)
    targets = [torch.randn(SHAPE, generator=draw) for _ in range(2)]
    made = [Prediction(torch.randn(SHAPE, generator=draw).requires_grad_(k < 2), targets[k % 2]) for k in range(4)]
    wide = [(p.velocity.detach().double() - p.target.double()).square().flatten(1).mean(1).numpy() for p in made]
    return made, wide


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def expected(name: str, w: np.ndarray, l: np.ndarray, wr: np.ndarray, lr: np.ndarray) -> tuple[float, np.ndarray]:  # noqa: E741
    """Value of a loss and the weight of each pair, from per-clip errors."""
    margin = (wr - lr) - (w - l)
    if name == "dpo" or name == "sdpo":
        return float(np.log1p(np.exp(-2 * margin)).mean()), sigmoid(-2 * margin)
    if name == "linear":
        weight = np.clip(0.5 - 2 * margin / 4, 0.1, 0.9)
        return float(-(weight * 2 * margin).mean()), weight
    if name == "ipo":
        return float(9 * np.square(margin - 1 / 6).mean()), 0.5 - 3 * margin
    if name == "mapo":
        odds = [0.5 * e / np.expm1(0.5 * e) for e in (w, l)]
        inside = 20 * (odds[0] - odds[1])
        return float(w.mean() + 0.3 * np.log1p(np.exp(-inside)).mean()), sigmoid(-inside)
    good, bad = 2 * (wr - w), 2 * (lr - l)
    origin = max(0.0, float(np.concatenate([good, bad]).mean()))
    value = np.concatenate([sigmoid(good - origin), sigmoid(origin - bad)])
    return float((1 - value).mean()), 2 * value * (1 - value)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_its_formula(name: str) -> None:
    for seed in range(3):
        made, errors = said(seed)
        loss, logs = LOSSES[name](*made)
        value, weight = expected(name, *errors)
        assert float(loss) == pytest.approx(value, rel=1e-4)
        assert float(logs["weight"]) == pytest.approx(weight.mean(), rel=1e-4, abs=1e-6)
        assert float(logs["dead"]) == pytest.approx((weight < DEAD).mean())
        assert float(logs["margin"]) == pytest.approx(np.mean(errors[2] - errors[3] - errors[0] + errors[1]), rel=1e-4)
        assert not any(value.requires_grad for value in logs.values())


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_pulls_winners_and_pushes_losers_as_hard_as_its_weight_says(name: str) -> None:
    """METHODS 1.1 (G): the gradient in a velocity is +-a (2 / n)(v - u), a the weight times the sharpness."""
    made, errors = said()
    LOSSES[name](*made)[0].backward()
    per_side = made[0].velocity[0].numel() * N
    _, weight = expected(name, *errors)
    sharp = {"dpo": 2.0, "sdpo": 2.0, "linear": 2.0, "ipo": 6.0, "kto": 0.5, "mapo": None}[name]
    for k, sign in ((0, 1.0), (1, -1.0)):
        a = made[k].velocity.grad
        pull = 2 * (made[k].velocity.detach() - made[k].target) / per_side
        if name == "mapo":
            x = 0.5 * torch.from_numpy(errors[k])
            slope = 0.5 * (torch.expm1(x) - x * x.exp()) / torch.expm1(x) ** 2  # d odds(x / 2) / d error
            strength = 0.3 * torch.from_numpy(weight) * 20 * -slope + (1.0 if k == 0 else 0.0) * sign
        else:
            own = weight[k * N :][:N] if name == "kto" else weight
            strength = sharp * torch.from_numpy(own)
        share = safe_share(made[0], made[1], 0.9) if name == "sdpo" and k == 1 else torch.ones(N)
        want = sign * (strength * share).float().reshape(-1, 1, 1) * pull
        assert a is not None and torch.allclose(a, want, rtol=1e-3, atol=1e-6), name


def test_the_safe_share_keeps_the_winners_error_falling() -> None:
    """A step along the scaled gradients leaves at least mu of the winner's own fall, and one that helps is kept."""
    made, _ = said(4)
    winner, loser = made[:2]
    aligned = Prediction(winner.velocity.detach() * 3 - winner.target * 2, winner.target)  # g_l = 3 g_w
    share = safe_share(winner, aligned, 0.9)
    assert torch.allclose(share, torch.full((N,), 0.1 / 3), rtol=1e-4)
    opposed = Prediction(2 * winner.target - winner.velocity.detach(), winner.target)  # g_l = -g_w
    assert torch.equal(safe_share(winner, opposed, 0.9), torch.ones(N))
    g_w, g_l = ((p.velocity - p.target).detach().flatten(1) for p in (winner, loser))
    fall = (g_w * (g_w - safe_share(winner, loser, 0.9)[:, None] * g_l)).sum(1)
    assert bool((fall >= 0.9 * g_w.square().sum(1) * (1 - 1e-4)).all())
    assert torch.equal(SDPOLoss(4.0)(*made)[0], DPOLoss(4.0)(*made)[0])


def test_auto_puts_one_spread_of_the_reference_at_a_point_of_the_sigmoid() -> None:
    made, errors = said()
    margin = np.std(errors[2] - errors[3] - errors[0] + errors[1])
    one = LIVELY / margin
    for loss, given in ((DPOLoss("auto"), DPOLoss(2 * one)), (SDPOLoss("auto"), SDPOLoss(2 * one)),
                        (IPOLoss("auto"), IPOLoss(one)), (KTOLoss("auto"), KTOLoss(one)),
                        (LinearDPOLoss("auto"), LinearDPOLoss(2 * one)),
                        (MaPOLoss(sharpness="auto"), MaPOLoss(sharpness=4 / margin))):  # fmt: skip
        assert loss.auto and not given.auto
        with pytest.raises(ValueError, match="call adapt"):
            loss(*made)
        loss.adapt(float(margin))
        assert float(loss(*made)[0]) == pytest.approx(float(given(*made)[0]), rel=1e-5)
    with pytest.raises(ValueError, match=r"differ by 0.*give a number in place of auto"):
        DPOLoss("auto").adapt(0.0)


# -- data --------------------------------------------------------------------------------------------------------


def test_pairs_are_kept_out_by_their_prompt_whatever_else_there_is() -> None:
    ids = [f"train-{k:04d}" for k in range(1000)]
    out = kept_out(ids, 0.2)
    assert 150 < len(out) < 250
    # more pairs, in another order: those of before stay where they were
    assert kept_out([*reversed(ids), *ids, "another"], 0.2) - {"another"} == out
    assert out < kept_out(ids, 0.3)
    assert kept_out(ids, 0.0) == set() == kept_out(["alone"], 0.5)
    assert len(kept_out(ids[:3], 0.001)) == 1 and len(kept_out(ids[:3], 0.999)) == 2


def world(folder: Path, n: int = 8) -> dict[str, str]:
    make_candidates(folder / "c", make_store(folder / "store"), n)
    return {"pairs": str(folder / "c/pairs.jsonl")}


# -- the stage ---------------------------------------------------------------------------------------------------


class Logged:
    """Keeps what a stage logs of validations."""

    def __init__(self, stage: Any) -> None:
        self.rows: list[dict[str, float]] = []
        inner = stage.log_dict

        def log_dict(values: dict[str, Any], **more: Any) -> None:
            if "val/accuracy" in values:
                self.rows.append({name: float(value) for name, value in values.items()})
            inner(values, **more)

        stage.log_dict = log_dict


@pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
def test_any_loss_trains_and_pairs_kept_out_are_measured_and_not_seen(tmp_path: Path, loss: Any) -> None:
    auto = type(loss)(**{name: "auto" for name in loss.init_args if name in ("beta", "tau", "sharpness")})
    stage = make_stage(Preference, loss=auto, optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3))
    wake(stage.model, 0.1)
    log, pairs = Logged(stage), world(tmp_path)
    data = make_data(tmp_path, PairData, held_out=0.3, **pairs)
    out = kept_out(data.rows().ids, 0.3)
    before = [p.detach().clone() for p in stage.model.parameters()]
    fitted(tmp_path, "run", stage, data, max_steps=4)
    assert any(not torch.equal(a, b) for a, b in zip(before, stage.model.parameters(), strict=True))
    assert len(log.rows) == 2 and all(0 <= row["val/accuracy"] <= 1 and row["val/margin"] != 0 for row in log.rows)
    assert 0 < len(out) < 8 and not {data.rows().ids[k] for k in data.table()} & out
    assert auto.spread is not None and auto.spread > 0


def test_a_run_that_goes_on_keeps_a_reference_that_follows_and_an_adapted_loss(tmp_path: Path) -> None:
    pairs = world(tmp_path)

    def run(name: str, updates: int, ckpt: str | None = None, spoil: bool = False) -> Any:
        stage = make_stage(Preference, loss=LinearDPOLoss("auto"), reference_decay=0.7)
        if spoil:  # other weights to begin with: nothing but the checkpoint knows reference and spread
            wake(stage.model, 0.3)
        fitted(tmp_path, name, stage, make_data(tmp_path, PairData, held_out=0.2, **pairs), updates, ckpt)
        return stage

    whole = run("whole", 8)
    run("cut", 4)
    cut = run("cut", 8, str(tmp_path / "cut/last.ckpt"), spoil=True)
    assert cut.loss.spread == whole.loss.spread
    for a, b in ((whole.model, cut.model), (whole.reference.model, cut.reference.model)):
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    moved = [not torch.equal(x, y) for x, y in
             zip(whole.reference.model.parameters(), whole.model.parameters(), strict=True)]  # fmt: skip
    assert any(moved)


def test_a_reference_follows_by_its_decay(tmp_path: Path) -> None:
    stage = make_stage(CRPO)
    stage.reference.take(stage.model)
    before = [p.clone() for p in stage.reference.model.parameters()]
    wake(stage.model, 0.3)
    stage.reference.follow(stage.model, 0.9)
    for old, new, policy in zip(before, stage.reference.model.parameters(), stage.model.parameters(), strict=True):
        assert torch.allclose(new, 0.9 * old + 0.1 * policy, atol=1e-6)


def test_clips_of_different_prompts_are_for_losses_without_pairs(tmp_path: Path) -> None:
    pairs = world(tmp_path)
    rows = read_jsonl(pairs["pairs"])
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        row["loser"] = {**row["loser"], "id": other["id"], "prompt": other["prompt"]}
    write_jsonl(pairs["pairs"], rows)
    data = make_data(tmp_path, PairData, **pairs)
    batch = data.rows().batch([0])
    assert not torch.equal(batch.winner.text, batch.loser.text)
    with pytest.raises(ValueError, match=r"different prompts.*set model.loss to KTOLoss"):
        fitted(tmp_path, "dpo", make_stage(CRPO), data, max_steps=2)
    fitted(tmp_path, "kto", make_stage(Preference, loss=KTOLoss(1.0)), data, max_steps=2)


def words(name: str, *more: str) -> list[str]:
    return ["fit", "--config", str(CONFIGS / "stages" / f"{name}.yaml"), *more]


def test_every_loss_is_one_word_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """With its own defaults: none may be left over from the loss that the recipe names."""
    found = {name: kind for name, kind in vars(fluxlight.losses).items() if isinstance(kind, type)
             and issubclass(kind, PreferenceLoss) and kind is not PreferenceLoss}  # fmt: skip
    assert len(found) >= 7
    for name, kind in found.items():
        assert main(words("preference", "--model.loss", name, "--print_config")) == 0
        loss = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["loss"]
        assert loss["class_path"].endswith(name) and loss["init_args"] == kind().init_args
    assert main(words("preference", "--model.loss", "IPOLoss", "--model.loss.tau", "auto", "--print_config")) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["loss"]["init_args"] == {"tau": "auto"}
    assert main(words("crpo", "--model.beta", "sharp", "--print_config")) == 2


def test_the_shipped_recipe_trains_with_a_loss_that_adapts_and_logs_what_was_kept_out(tmp_path: Path) -> None:
    small, run = str(make_world(tmp_path)), tmp_path / "run"
    make_candidates(tmp_path / "c", tmp_path / "store", 8)
    args = ["--config", small, "--data.pairs", str(tmp_path / "c/pairs.jsonl"), "--model.loss", "LinearDPOLoss",
            "--model.loss.beta", "auto", "--model.reference_decay", "0.9", "--data.held_out", "0.3",
            "--plan.crpo.updates", "2", "--trainer.default_root_dir", str(run)]  # fmt: skip
    assert main(words("preference", *args)) == 0
    log = next(run.glob("logs/**/metrics.csv")).read_text().splitlines()[0].split(",")
    assert {"val/accuracy", "val/margin", "train/accuracy", "train/weight", "train/dead"} <= set(log)


def test_dead_pairs_are_counted() -> None:
    """The published sharpness at a margin that ten updates reach (measured at `tiny`): next to nothing is left."""
    zero, one = torch.zeros(SHAPE), torch.full(SHAPE, 0.1)
    told = [Prediction(zero, zero), Prediction(one, zero), Prediction(zero, zero), Prediction(zero, zero)]
    assert float(DPOLoss(2000.0)(*told)[1]["dead"]) == 1.0 and float(DPOLoss(20.0)(*told)[1]["dead"]) == 0.0
    assert float(DPOLoss(2000.0)(*told)[1]["weight"]) == pytest.approx(1 / (1 + math.exp(10)), rel=1e-3)
