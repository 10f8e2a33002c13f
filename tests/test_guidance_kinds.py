"""Kinds of guidance against their formulas: rescaled, CFG-Zero*, APG, and a score for the negative branch."""

from __future__ import annotations

import pytest
import torch
import yaml
from small_heads import D, L
from small_sampling import model as model
from small_sampling import prompts
from torch import Tensor

from fluxlight import cli
from fluxlight.generate.pipeline import read_sampler
from fluxlight.guidance import Guidance, GuidedVelocity, guide
from fluxlight.guidance.apg import APG
from fluxlight.guidance.cfg_zero_star import CFGZeroStar
from fluxlight.guidance.joint import Joint
from fluxlight.guidance.rescaled import Rescaled
from fluxlight.guidance.separate import Separate
from fluxlight.model import FluxModel
from fluxlight.sample import Sampler, noise
from fluxlight.types import Condition

KINDS = [Joint(), Separate(), Rescaled(), Rescaled(0.5), APG(), APG(0.3, -0.5, 0.5), CFGZeroStar(), CFGZeroStar(0.0)]


def made(model: FluxModel, guidance: Guidance, weight: float = 3.0, **more: object) -> GuidedVelocity:
    batch = prompts(3)
    return guide(model, Condition(batch.text, batch.text_c), 2.0, weight, guidance=guidance, **more)  # type: ignore[arg-type]


@torch.no_grad()
def branches(model: FluxModel, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
    batch = prompts(3)
    real = model.velocity(x, t, Condition(batch.text, batch.text_c), torch.full((3,), 2.0))
    return real, model.velocity(x, t, model.negative_condition(3))


@pytest.mark.parametrize("kind", KINDS, ids=repr)
@torch.no_grad()
def test_weight_one_is_no_guidance_and_costs_one_forward(model: FluxModel, kind: Guidance) -> None:
    x, t, runs = noise([1, 2, 3], L, D), 0.6, list[int]()
    real, _ = branches(model, x, t)
    hook = model.backbone.final_layer.register_forward_hook(lambda *_: runs.append(1))  # type: ignore[union-attr]
    torch.testing.assert_close(made(model, kind, 1.0)(x, t), real, atol=1e-5, rtol=0)
    hook.remove()
    assert len(runs) == 1


@pytest.mark.parametrize("weight", [0.0, 2.0, 4.0])
@torch.no_grad()
def test_kinds_without_effect_are_joint(model: FluxModel, weight: float) -> None:
    x, t = noise([1, 2, 3], L, D), 0.6
    joint = made(model, Joint(), weight)(x, t)
    assert torch.equal(made(model, Separate(), weight)(x, t), joint)
    for kind in (Rescaled(0.0), APG(eta=1.0)):
        if weight or not isinstance(kind, APG):
            torch.testing.assert_close(made(model, kind, weight)(x, t), joint, atol=1e-4, rtol=0)


@torch.no_grad()
def test_rescaled_brings_the_spread_of_the_prediction_back(model: FluxModel) -> None:
    x, t = noise([1, 2, 3], L, D), 0.7
    real, _ = branches(model, x, t)
    spread = lambda v: (x - t * v).std(dim=(1, 2))  # noqa: E731
    wide, half, full = (spread(made(model, Rescaled(s), 6.0)(x, t)) for s in (0.0, 0.5, 1.0))
    torch.testing.assert_close(full, spread(real), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(half, (wide + spread(real)) / 2, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(wide, full, rtol=1e-3), "guidance changed nothing: nothing was tested"
    assert torch.isfinite(made(model, Rescaled(), 6.0)(x, 0.0)).all()


@torch.no_grad()
def test_rescaled_goes_with_a_weight_for_the_score(model: FluxModel) -> None:
    x, t = noise([1, 2, 3], L, D), 0.7
    separate = made(model, Separate(), 3.0, score_weight=5.0)(x, t)
    torch.testing.assert_close(made(model, Rescaled(0.0), 3.0, score_weight=5.0)(x, t), separate, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="score_weight is 5, but APG has one weight"):
        made(model, APG(), 3.0, score_weight=5.0)
    with pytest.raises(ValueError, match="score_weight is 5, but guidance APG has one weight"):
        Sampler(score_weight=5.0, guidance=APG())


@torch.no_grad()
def test_cfg_zero_star_is_its_formula(model: FluxModel) -> None:
    x, t, w = noise([1, 2, 3], L, D), 0.6, 3.0
    real, other = branches(model, x, t)
    for row in range(3):
        a, b = real[row].flatten().double(), other[row].flatten().double()
        s = (a @ b) / (b @ b)
        expected = s * b + w * (a - s * b)
        found = made(model, CFGZeroStar(), w)(x, t)[row].flatten().double()
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    # of 25 steps the first is 0, of 100 the first four
    zero = lambda steps: [CFGZeroStar().is_silent(1 - i / steps) for i in range(6)]  # noqa: E731
    assert zero(25) == [True] + [False] * 5 and zero(100) == [True] * 4 + [False] * 2
    assert not made(model, CFGZeroStar(), w)(x, 1.0).any()


@torch.no_grad()
def test_apg_is_its_formula(model: FluxModel) -> None:
    x, t, w, eta, radius = noise([1, 2, 3], L, D), 0.6, 3.0, 0.25, 0.05
    real, other = branches(model, x, t)
    for limit in (None, radius):
        guided = made(model, APG(eta, radius=limit), w)(x, t)
        for row in range(3):
            a, b = ((x - t * v)[row].flatten().double() for v in (real, other))
            d = a - b
            if limit is not None:
                d = d * min(1.0, limit / d.square().mean().sqrt().item())
            along = (d @ a) / (a @ a) * a
            expected = a + (w - 1) * (d - along + eta * along)
            torch.testing.assert_close((x - t * guided)[row].flatten().double(), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_momentum_of_apg_remembers_the_step_before(model: FluxModel) -> None:
    x, guided = noise([1, 2, 3], L, D), made(model, APG(1.0, momentum=-0.5), 3.0)
    steps = []
    for t in (0.8, 0.6):
        real, other = branches(model, x, t)
        steps.append(t * (other - real))
        found = guided(x, t)
    expected = real - 2 * (steps[1] - 0.5 * steps[0]) / 0.6
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_negative_branch_has_a_score(model: FluxModel) -> None:
    x, t, w = noise([1, 2, 3], L, D), 0.6, 3.0
    real, null = branches(model, x, t)
    low = model.velocity(x, t, model.negative_condition(3), torch.full((3,), -1.5))
    assert not torch.allclose(low, null, atol=1e-4)
    guided = made(model, Joint(), w, negative_score=-1.5)(x, t)
    torch.testing.assert_close(guided, w * real + (1 - w) * low, atol=1e-4, rtol=1e-4)


def test_settings_travel_as_plain_values() -> None:
    assert "guidance" not in Sampler().plain() and "negative_score" not in Sampler().plain()
    for kind in KINDS:
        sampler = Sampler(guidance=kind, negative_score=-1.0)
        assert read_sampler(sampler.plain(), "x", Sampler()) == sampler
    assert Sampler(guidance=Rescaled(0.5)) != Sampler(guidance=Rescaled(0.6))
    for kind in ({"class_path": "subprocess.Popen"}, {"class_path": "fluxlight.heads.InputAdd"}):
        with pytest.raises(ValueError, match="not part of fluxlight|is not a Guidance"):
            read_sampler({"guidance": kind}, "x", Sampler())
    with pytest.raises(ValueError, match="may name euler or heun"):
        read_sampler({"method": "os.system"}, "x", Sampler())
    for name in ("midpoint", "nowhere.at_all", "fluxlight.sample.nothing"):
        with pytest.raises(ValueError, match="use euler, heun, or the import path"):
            Sampler(method=name)
    assert Sampler(method="fluxlight.solvers.heun").method == "fluxlight.solvers.heun"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--guidance", "Wider"], "no kind of guidance: use APG, CFGZeroStar, Joint, Rescaled, Separate"),
        (["--guidance-set", "eta=1"], "name it with --guidance"),
        (["--guidance", "APG", "--guidance-set", "eta"], "has no value"),
        (["--guidance", "APG", "--guidance-set", "eat=1"], "does not fit APG"),
        (["--guidance", "APG", "--guidance-set", "eta=7"], "eta is 7"),
    ],
)
def test_wrong_words_are_named(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    from fluxlight.cli.generate import find_sampler, parser

    with pytest.raises(ValueError, match=line):
        find_sampler(vars(parser().parse_args(["a tune", "--model", "x", *words])))


def test_a_kind_is_chosen_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    from fluxlight.cli.generate import find_sampler, parser

    words = ["--guidance", "Rescaled", "--guidance-set", "strength=0.7", "--negative-score", "-1.5", "--cfg", "3"]
    found = find_sampler(vars(parser().parse_args(["a tune", "--model", "x", *words])))
    assert found == {"cfg_weight": 3.0, "negative_score": -1.5, "guidance": Rescaled(0.7)}
    config = ["fit", "--config", "configs/stages/score_cond_sft.yaml", "--model.sampler.guidance", "Rescaled"]
    assert cli.main([*config, "--model.sampler.guidance.strength", "0.7", "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["sampler"]["guidance"]
    assert printed == {"class_path": "fluxlight.guidance.Rescaled", "init_args": {"strength": 0.7}}
    assert cli.main([*config[:-1], "Wider", "--print_config"]) == 2, "an unknown kind"
    assert "APG, CFGZeroStar, Joint, Rescaled, Separate" in capsys.readouterr().err
