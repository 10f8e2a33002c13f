"""FluxAudio is the published backbone to the last digit: golden vectors of every part, loss and training step."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_backbone import Golden, assert_near
from golden_backbone import vectors as vectors
from torch import Tensor

from fluxlight.backbone.blocks import TimeConv
from fluxlight.backbone.embeddings import rotate, rotation
from fluxlight.flow import interpolate, per_sample_loss, target, time_of_normal
from fluxlight.guidance import guide
from fluxlight.model import FluxModel
from fluxlight.sample import grid
from fluxlight.solvers import euler
from fluxlight.types import Condition


def test_velocity_and_every_tap(vectors: Golden) -> None:
    backbone = vectors.model().backbone
    taps: dict[str, Tensor] = {}

    def tap(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            if isinstance(output, tuple):
                taps[f"{name}.latent"], taps[f"{name}.text"] = output
            else:
                taps[name] = output

        return hook

    backbone.audio_input_proj.register_forward_hook(tap("audio_input_proj"))
    for kind in ("joint", "fused"):
        for i, block in enumerate(getattr(backbone, f"{kind}_blocks")):
            block.register_forward_hook(tap(f"{kind}{i}"))
    with torch.no_grad():
        t = torch.tensor(vectors.meta["t"])
        assert_near(t, vectors["in.t"], 0)
        velocity = backbone(vectors["in.latent"], t, vectors["in.text_f"], vectors["in.text_f_c"])
        prepared = backbone.project_text(vectors["in.text_f"], vectors["in.text_f_c"])
        assert_near(backbone.t_embed.waves(t), vectors["out.t_embed.sincos"], 5e-5)
        assert_near(backbone.t_embed(t), vectors["out.t_embed.out"], 5e-5)
        empty = backbone.project_text(backbone.empty_string_feat[None], backbone.empty_string_feat_c[None])
    assert_near(velocity, vectors["out.velocity"], 5e-5)
    assert_near(prepared.text, vectors["out.cond.text_f"], 5e-5)
    assert_near(prepared.text_c[:, 0], vectors["out.cond.text_f_c"], 5e-5)
    assert_near(empty.text, vectors["out.empty.text_f"], 5e-5)
    assert_near(empty.text_c[:, 0], vectors["out.empty.text_f_c"], 5e-5)
    expected = {k[8:] for k in vectors.tensors if k.startswith("out.tap.")}
    assert set(taps) == expected and len(expected) == 7
    for name in expected:
        assert_near(taps[name], vectors[f"out.tap.{name}"], 5e-5)


def test_rotary_tables(vectors: Golden) -> None:
    for name in ("latent", "text"):
        table = vectors[f"out.{name}_rot"][0]
        cos, sin = rotation(0, table.shape[0], 2 * table.shape[1], torch.device("cpu"))
        assert_near(torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2), table, 5e-6)


def test_rotation_compiled_or_not_is_one_function() -> None:
    """Two forms of the same: complex numbers, which the compiler cannot write, and real ones."""
    x, table = torch.randn(2, 5, 3, 8), rotation(-1, 4, 8, torch.device("cpu"))
    compiled = torch.compile(rotate, backend="aot_eager")
    assert_near(compiled(x, table), rotate(x, table), 1e-6)
    assert torch.equal(rotate(x, table)[:, 1], x[:, 1]), "position 0 is not turned"
    assert_near(rotate(x, table).norm(dim=-1), x.norm(dim=-1), 1e-5)


def test_without_rope_is_another_function_of_the_same_weights(vectors: Golden) -> None:
    model = vectors.model(use_rope=False)
    with torch.no_grad():
        velocity = model.velocity(vectors["in.latent"], vectors["in.t"], vectors.condition)
        # without positions in attention, a clip's velocity still depends on order only through its convolutions:
        # permuting the text tokens changes nothing
        shuffled = Condition(vectors["in.text_f"].flip(1), vectors["in.text_f_c"])
        assert_near(model.velocity(vectors["in.latent"], vectors["in.t"], shuffled), velocity, 5e-5)
    # golden/README.md: leaving RoPE out moves the velocity by 0.7 of its standard deviation
    moved = (velocity - vectors["out.velocity"]).abs().max() / vectors["out.velocity"].std()
    assert moved.item() == pytest.approx(0.7, abs=0.01)


def test_guided_velocity(vectors: Golden) -> None:
    model, t = vectors.model(), vectors.meta["t_ode"]
    negative = Condition(vectors["in.neg_text_f"], vectors["in.neg_text_f_c"])
    cases = (
        ("cfg4_velocity", 4.0, model.empty_condition(3)),
        ("cfg4_velocity_negprompt", 4.0, negative),
        ("cfg1_velocity", 1.0, negative),
    )
    with torch.no_grad():
        assert_near(
            model.velocity(vectors["in.latent"], t, vectors.condition), vectors["out.velocity_cond_t_ode"], 5e-5
        )
        empty = model.empty_condition(3)
        assert_near(model.velocity(vectors["in.latent"], t, empty), vectors["out.velocity_empty_t_ode"], 5e-5)
        for name, weight, other in cases:
            for joined in (False, True):
                guided = guide(model, vectors.condition, None, weight, other, joined=joined)
                assert_near(guided(vectors["in.latent"], t), vectors[f"out.{name}"], 2e-4)


def test_euler_in_both_directions(vectors: Golden) -> None:
    model = vectors.model()
    assert_near(torch.tensor(grid(25)), vectors["out.euler_grid25"], 0)
    with torch.no_grad():
        guided = guide(model, vectors.condition, None, 4.0)  # no negative text stored: the empty one
        plain = guide(model, vectors.condition, None, 1.0)
        assert_near(euler(guided, vectors["in.x_noise"], grid(25)), vectors["out.euler25_cfg4"], 2e-4)
        assert_near(euler(plain, vectors["in.x_noise"], grid(25)), vectors["out.euler25_nocfg"], 2e-4)
        assert_near(euler(plain, vectors["in.x1"], grid(25, 0.0, 1.0)), vectors["out.euler25_to_prior_nocfg"], 2e-4)
        assert_near(
            euler(plain, vectors["in.x_noise"], grid(25, 0.0, 1.0)), vectors["out.euler25_forwardflow_nocfg"], 2e-4
        )


def _losses(model: FluxModel, vectors: Golden) -> Tensor:
    x_t = interpolate(vectors["in.x1"], vectors["in.x0"], vectors["in.t"])
    velocity = model.velocity(x_t, vectors["in.t"], vectors.condition)
    return per_sample_loss(velocity, target(vectors["in.x1"], vectors["in.x0"]))


def test_loss_and_gradients(vectors: Golden) -> None:
    model = vectors.model()
    assert_near(interpolate(vectors["in.x1"], vectors["in.x0"], vectors["in.t"]), vectors["out.loss.xt"], 1e-6)
    assert_near(target(vectors["in.x1"], vectors["in.x0"]), vectors["out.loss.target"], 0)
    assert_near(time_of_normal(vectors["in.noise_t"]), vectors["out.loss.t_from_normal"], 1e-6)
    losses = _losses(model, vectors)
    torch.testing.assert_close(losses, vectors["out.loss.per_sample"], rtol=1e-5, atol=0)
    losses.mean().backward()
    torch.testing.assert_close(losses.mean(), vectors["out.loss.mean"][0], rtol=1e-5, atol=0)
    parameters = dict(model.backbone.named_parameters())
    total = torch.stack([p.grad.norm() for p in parameters.values() if p.grad is not None]).norm()
    torch.testing.assert_close(total, vectors["out.loss.grad_total_norm"][0], rtol=1e-4, atol=0)
    names = [k[9:] for k in vectors.tensors if k.startswith("out.grad.")]
    assert len(names) == 6
    for name in names:
        expected = vectors[f"out.grad.{name}"]
        gradient = parameters[name].grad
        assert gradient is not None
        assert_near(gradient, expected, 1e-4 * expected.abs().max().item())
    for name, norm in vectors.meta["grad_norms"].items():
        gradient = parameters[name].grad
        assert gradient is not None and abs(gradient.norm().item() - norm) <= 1e-4 * norm + 1e-6, name


def test_loss_of_the_other_direction(vectors: Golden) -> None:
    """Upstream can also run from noise at 0 to data at 1: data and noise change places."""
    model, x0, x1, t = vectors.model(), vectors["in.x0"], vectors["in.x1"], vectors["in.t"]
    assert_near(interpolate(x0, x1, t), vectors["out.loss_forwardflow.xt"], 1e-6)
    with torch.no_grad():
        velocity = model.velocity(vectors["out.loss.xt"], t, vectors.condition)
    assert_near(velocity, vectors["out.loss.pred"], 5e-5)
    losses = per_sample_loss(velocity, target(x0, x1))
    torch.testing.assert_close(losses, vectors["out.loss_forwardflow.per_sample"], rtol=1e-5, atol=0)


def test_every_published_number_is_compared(vectors: Golden) -> None:
    """A vector that no test of this file reads would be parity claimed and not checked."""
    source = Path(__file__).read_text()
    families = ("out.tap.", "out.grad.", "out.cfg", "out.latent_rot", "out.text_rot")
    names = [k for k in vectors.tensors if k.startswith("out.") and not k.startswith(families)]
    unread = [name for name in names if f'"{name}"' not in source]
    assert len(names) > 20 and not unread


@pytest.mark.parametrize("fused", [False, True])
def test_three_adamw_steps(vectors: Golden, fused: bool) -> None:
    model, recipe = vectors.model(), vectors.meta["train3"]
    optimiser = torch.optim.AdamW(
        model.parameters(), recipe["lr"], tuple(recipe["betas"]), recipe["eps"], recipe["weight_decay"], fused=fused
    )
    for loss_then, norm_then in zip(recipe["losses"], recipe["grad_norms_before_clip"], strict=True):
        loss = _losses(model, vectors).mean()
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe["clip_grad_norm"])
        optimiser.step()
        assert loss.item() == pytest.approx(loss_then, rel=1e-5)
        assert norm.item() == pytest.approx(norm_then, rel=1e-4)
    with torch.no_grad():
        velocity = model.velocity(vectors["in.latent"], vectors["in.t"], vectors.condition)
    assert_near(velocity, vectors["out.train3.velocity_after"], 2e-4)


def test_compiled_blocks_compute_the_same_and_keep_their_names(vectors: Golden) -> None:
    model, compiled = vectors.model(), vectors.model()
    compiled.backbone.compile_blocks(backend="aot_eager")
    assert list(compiled.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        assert_near(
            compiled.velocity(vectors["in.latent"], vectors["in.t"], vectors.condition), vectors["out.velocity"], 5e-5
        )
    _losses(compiled, vectors).mean().backward()
    _losses(model, vectors).mean().backward()
    for ours, theirs in zip(compiled.parameters(), model.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert_near(ours.grad, theirs.grad, 1e-5 + 1e-4 * theirs.grad.abs().max().item())
    assert not hasattr(copy.deepcopy(compiled.backbone.fused_blocks[0]), "_compiled_call_impl") or (
        copy.deepcopy(compiled.backbone.fused_blocks[0])._compiled_call_impl is None
    )


def test_weights_lie_as_the_convolutions_want_them_and_stay_so(vectors: Golden) -> None:
    """Features last in memory, whatever happens to the module: else every call would bring all weights into order."""
    model = vectors.model()
    moved = copy.deepcopy(model).double().float()
    _losses(moved, vectors).mean().backward()
    optimiser = torch.optim.AdamW(moved.parameters())
    optimiser.step()
    convolutions = [m for m in moved.modules() if isinstance(m, TimeConv)]
    assert len(convolutions) == 21
    for module in convolutions:
        weight, state = module.weight, optimiser.state[module.weight]
        for value in (weight, weight.grad, state["exp_avg"], state["exp_avg_sq"]):
            assert value is not None and value.transpose(1, 2).is_contiguous()
