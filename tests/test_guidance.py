"""Solvers against closed forms, guidance and combinations of checkpoints against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from small_heads import D, L
from small_sampling import model as model
from small_sampling import prompts
from torch import Tensor

from fluxlight.guidance import WeightSchedule, guide
from fluxlight.guidance.checkpoints import Average, Crossover
from fluxlight.model import FluxModel
from fluxlight.sample import grid, noise
from fluxlight.solvers import SOLVERS, euler, heun
from fluxlight.types import Condition

X = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64).reshape(1, 3, 1)


# solvers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOLVERS)
def test_a_constant_velocity_is_integrated_exactly(name: str) -> None:
    out = SOLVERS[name](lambda x, t: torch.full_like(x, 3.0), X, grid(7))
    torch.testing.assert_close(out, X - 3.0)


def test_a_velocity_linear_in_time() -> None:
    """dx/dt = 2t: Heun is exact, Euler has its known error 1/n."""
    linear = lambda x, t: torch.full_like(x, 2 * t)  # noqa: E731
    torch.testing.assert_close(heun(linear, X, grid(8)), X - 1, atol=1e-7, rtol=0)
    torch.testing.assert_close(euler(linear, X, grid(8)), X - 1 - 1 / 8, atol=1e-7, rtol=0)


@pytest.mark.parametrize(("name", "factor"), [("euler", lambda h: 1 - h), ("heun", lambda h: 1 - h + h * h / 2)])
def test_exponential_decay_has_the_solver_s_own_closed_form(name: str, factor: object) -> None:
    """dx/dt = x from t = 1 to 0: after n steps x factor(1/n)^n, which tends to x / e at the solver's order."""
    errors = []
    for n in (16, 32):
        out = SOLVERS[name](lambda x, t: x, X, grid(n))
        torch.testing.assert_close(out, X * factor(1 / n) ** n, atol=1e-6, rtol=0)  # type: ignore[operator]
        errors.append((out - X / math.e).abs().max().item())
    order = math.log2(errors[0] / errors[1])
    assert order == pytest.approx({"euler": 1, "heun": 2}[name], abs=0.1)


def test_forth_and_back_is_the_start() -> None:
    wave = lambda x, t: torch.sin(5 * t + x)  # noqa: E731
    there = heun(wave, X, grid(400))
    torch.testing.assert_close(heun(wave, there, grid(400, 0.0, 1.0)), X, atol=1e-4, rtol=0)


def test_the_grid_is_the_published_one() -> None:
    assert len(grid(25)) == 26 and grid(25)[0] == 1 and grid(25)[-1] == 0
    assert grid(25)[10] == pytest.approx(0.6)


# guidance --------------------------------------------------------------------------------------------------------


class Counting:
    """A velocity that counts its calls."""

    def __init__(self, value: float) -> None:
        self.value, self.times = value, list[float]()

    def __call__(self, x: Tensor, t: float) -> Tensor:
        self.times.append(t)
        return torch.full_like(x, self.value)


def test_schedules() -> None:
    assert [WeightSchedule().weight(4.0, t) for t in (1.0, 0.5, 0.0)] == [4, 4, 4]
    assert [WeightSchedule("anneal").weight(4.0, t) for t in (1.0, 0.5, 0.0)] == [4, 2.5, 1]
    interval = WeightSchedule("interval", (0.25, 0.75))
    assert [interval.weight(4.0, t) for t in (1.0, 0.75, 0.5, 0.25, 0.0)] == [1, 4, 4, 4, 1]
    for wrong in ((0.8, 0.2), (-0.1, 0.5), (0.5, 1.5)):
        with pytest.raises(ValueError, match="interval"):
            WeightSchedule("interval", wrong)


@torch.no_grad()
def test_joint_guidance_is_its_formula_under_every_schedule(model: FluxModel) -> None:
    batch, x = prompts(3), noise([1, 2, 3], L, D)
    condition = Condition(batch.text, batch.text_c)
    for schedule in (WeightSchedule(), WeightSchedule("anneal"), WeightSchedule("interval", (0.3, 0.6))):
        for t in (0.9, 0.45, 0.1):
            w = schedule.weight(4.0, t)
            real = model.velocity(x, t, condition, torch.full((3,), 2.0))
            expected = w * real + (1 - w) * model.velocity(x, t, model.negative_condition(3))
            for joined in (False, True):
                guided = guide(model, condition, 2.0, 4.0, schedule=schedule, joined=joined)
                torch.testing.assert_close(guided(x, t), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_outside_the_interval_the_negative_branch_is_not_computed(model: FluxModel) -> None:
    batch, x = prompts(3), noise([1, 2, 3], L, D)
    guided = guide(model, Condition(batch.text, batch.text_c), 2.0, schedule=WeightSchedule("interval", (0.4, 0.6)))
    runs: list[int] = []
    hook = model.backbone.final_layer.register_forward_hook(lambda *_: runs.append(1))  # type: ignore[union-attr]
    for t, expected in ((0.9, 1), (0.5, 2), (0.1, 1)):
        runs.clear()
        guided(x, t)
        assert len(runs) == expected
    hook.remove()


@torch.no_grad()
def test_separate_weights(model: FluxModel) -> None:
    batch, x, t = prompts(3), noise([1, 2, 3], L, D), 0.6
    condition, scores = Condition(batch.text, batch.text_c), torch.tensor([-1.0, 0.0, 2.0])
    negative = model.velocity(x, t, model.negative_condition(3))
    text, both = model.velocity(x, t, condition), model.velocity(x, t, condition, scores)
    expected = negative + 3 * (text - negative) + 5 * (both - text)
    for joined in (False, True):
        guided = guide(model, condition, scores, weight=3.0, score_weight=5.0, joined=joined)
        torch.testing.assert_close(guided(x, t), expected, atol=1e-4, rtol=0)
    equal = guide(model, condition, scores, weight=4.0, score_weight=4.0)
    torch.testing.assert_close(equal(x, t), guide(model, condition, scores, 4.0)(x, t), atol=1e-4, rtol=0)


def test_crossover_and_average_are_wrappers() -> None:
    first, second = Counting(1.0), Counting(3.0)
    # 10 steps of 1/10 from t = 1: six times (1.0 .. 0.5) are not below the change, the one at 0.5 is the second's
    out = euler(Crossover(first, second, at=0.45), X, grid(10))
    torch.testing.assert_close(out, X - 0.6 * 1 - 0.4 * 3, atol=1e-6, rtol=0)
    assert min(first.times) > 0.45 >= max(second.times)
    reverse = euler(Crossover(second, first, at=0.45), X, grid(10))
    torch.testing.assert_close(reverse, X - 0.6 * 3 - 0.4 * 1, atol=1e-6, rtol=0)
    torch.testing.assert_close(Average(first, second)(X, 0.3), torch.full_like(X, 2.0))
    torch.testing.assert_close(Average(first, second, weight=0.75)(X, 0.3), torch.full_like(X, 1.5))
