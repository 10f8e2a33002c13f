"""FluxAudio is the published backbone to the last digit: golden vectors, parameter counts, state-dict names."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fluxlight.backbone import FluxAudio
from fluxlight.backbone.blocks import TimeConv
from fluxlight.backbone.embeddings import rotate, rotation
from fluxlight.flow import interpolate, per_sample_loss, target, time_of_normal
from fluxlight.guidance import JointGuidance
from fluxlight.model import FluxModel
from fluxlight.published import export_published, load_published, read_published
from fluxlight.sample import euler, grid
from fluxlight.types import Condition

S = dict(text_dim=1024, text_c_dim=512, hidden_dim=448, num_heads=7, depth=12, fused_depth=8, text_seq_len=77)
SIZES: dict[str, dict[str, Any]] = {
    "s_16k": S | dict(latent_dim=20, latent_seq_len=312),
    "s_44k": S | dict(latent_dim=40, latent_seq_len=430),
    # the published count of L is that of 20-channel latents: 40 channels have 250,900 more
    "l": S | dict(latent_dim=20, latent_seq_len=312, hidden_dim=896, num_heads=14),
    "l_44k": S | dict(latent_dim=40, latent_seq_len=430, hidden_dim=896, num_heads=14),
}
TRAINABLE = {"s_16k": 120_106_388, "s_44k": 120_231_848, "l": 478_417_684, "l_44k": 478_417_684 + 250_900}


class Golden:
    """Vectors and settings of the small published network."""

    def __init__(self, folder: Path) -> None:
        self.meta = json.loads((folder / "fluxaudio_small_golden.json").read_text())
        self.tensors = load_file(folder / "fluxaudio_small_golden.safetensors")
        self.state = {k[3:]: v for k, v in self.tensors.items() if k.startswith("sd.")}

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def model(self, **changes: Any) -> FluxModel:
        model = FluxModel(FluxAudio(**{**self.meta["model_config"], **changes}))
        load_published(model, self.state)
        return model

    @property
    def condition(self) -> Condition:
        return Condition(self["in.text_f"], self["in.text_f_c"])


@pytest.fixture(scope="module")
def vectors(golden: Path) -> Golden:
    return Golden(golden)


def near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("rope", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_parameter_counts(size: str, rope: bool) -> None:
    with torch.device("meta"):
        model = FluxAudio(**SIZES[size], use_rope=rope)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == TRAINABLE[size]
    frozen = sum(b.numel() for b in model.state_dict().values()) - trainable
    assert frozen == 77 * 1024 + 512 + 2 * model.latent_dim


@pytest.mark.parametrize("size", ["s_16k", "s_44k"])
def test_published_names_and_shapes(golden: Path, size: str) -> None:
    rows = [line.split("\t") for line in (golden / f"fluxaudio_{size}_keys.txt").read_text().splitlines()[1:]]
    with torch.device("meta"):
        model = FluxAudio(**SIZES[size])
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == {r[0]: json.loads(r[1]) for r in rows}
    assert {n for n, _ in model.named_parameters()} == {r[0] for r in rows if r[4] == "1"}


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes_give_velocities_of_a_clip(size: str) -> None:
    """Shapes alone, on the meta device: (latent, t, text_f, text_f_c) as published."""
    with torch.device("meta"):
        model, sizes = FluxAudio(**SIZES[size]), SIZES[size]
        latent = torch.empty(2, sizes["latent_seq_len"], sizes["latent_dim"])
        out = model(latent, torch.empty(2), torch.empty(2, 77, 1024), torch.empty(2, 512))
    assert out.shape == latent.shape


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
        near(t, vectors["in.t"], 0)
        velocity = backbone(vectors["in.latent"], t, vectors["in.text_f"], vectors["in.text_f_c"])
        prepared = backbone.project_text(vectors["in.text_f"], vectors["in.text_f_c"])
        near(backbone.t_embed.waves(t), vectors["out.t_embed.sincos"], 5e-5)
        near(backbone.t_embed(t), vectors["out.t_embed.out"], 5e-5)
        empty = backbone.project_text(backbone.empty_string_feat[None], backbone.empty_string_feat_c[None])
    near(velocity, vectors["out.velocity"], 5e-5)
    near(prepared.text, vectors["out.cond.text_f"], 5e-5)
    near(prepared.text_c[:, 0], vectors["out.cond.text_f_c"], 5e-5)
    near(empty.text, vectors["out.empty.text_f"], 5e-5)
    near(empty.text_c[:, 0], vectors["out.empty.text_f_c"], 5e-5)
    expected = {k[8:] for k in vectors.tensors if k.startswith("out.tap.")}
    assert set(taps) == expected and len(expected) == 7
    for name in expected:
        near(taps[name], vectors[f"out.tap.{name}"], 5e-5)


def test_rotary_tables(vectors: Golden) -> None:
    for name in ("latent", "text"):
        table = vectors[f"out.{name}_rot"][0]
        cos, sin = rotation(0, table.shape[0], 2 * table.shape[1], torch.device("cpu"))
        near(torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2), table, 5e-6)


def test_rotation_compiled_or_not_is_one_function() -> None:
    """Two forms of the same: complex numbers, which the compiler cannot write, and real ones."""
    x, table = torch.randn(2, 5, 3, 8), rotation(-1, 4, 8, torch.device("cpu"))
    compiled = torch.compile(rotate, backend="aot_eager")
    near(compiled(x, table), rotate(x, table), 1e-6)
    assert torch.equal(rotate(x, table)[:, 1], x[:, 1]), "position 0 is not turned"
    near(rotate(x, table).norm(dim=-1), x.norm(dim=-1), 1e-5)


def test_without_rope_is_another_function_of_the_same_weights(vectors: Golden) -> None:
    model = vectors.model(use_rope=False)
    with torch.no_grad():
        velocity = model.velocity(vectors["in.latent"], vectors["in.t"], vectors.condition)
        # without positions in attention, a clip's velocity still depends on order only through its convolutions:
        # permuting the text tokens changes nothing
        shuffled = Condition(vectors["in.text_f"].flip(1), vectors["in.text_f_c"])
        near(model.velocity(vectors["in.latent"], vectors["in.t"], shuffled), velocity, 5e-5)
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
        near(model.velocity(vectors["in.latent"], t, vectors.condition), vectors["out.velocity_cond_t_ode"], 5e-5)
        empty = model.empty_condition(3)
        near(model.velocity(vectors["in.latent"], t, empty), vectors["out.velocity_empty_t_ode"], 5e-5)
        for name, weight, other in cases:
            for joined in (False, True):
                guided = JointGuidance(model, vectors.condition, None, weight, other, joined=joined)
                near(guided(vectors["in.latent"], t), vectors[f"out.{name}"], 2e-4)


def test_euler_in_both_directions(vectors: Golden) -> None:
    model = vectors.model()
    near(torch.tensor(grid(25)), vectors["out.euler_grid25"], 0)
    with torch.no_grad():
        guided = JointGuidance(model, vectors.condition, None, 4.0)  # no negative text stored: the empty one
        plain = JointGuidance(model, vectors.condition, None, 1.0)
        near(euler(guided, vectors["in.x_noise"], grid(25)), vectors["out.euler25_cfg4"], 2e-4)
        near(euler(plain, vectors["in.x_noise"], grid(25)), vectors["out.euler25_nocfg"], 2e-4)
        near(euler(plain, vectors["in.x1"], grid(25, 0.0, 1.0)), vectors["out.euler25_to_prior_nocfg"], 2e-4)
        near(euler(plain, vectors["in.x_noise"], grid(25, 0.0, 1.0)), vectors["out.euler25_forwardflow_nocfg"], 2e-4)


def _losses(model: FluxModel, vectors: Golden) -> Tensor:
    x_t = interpolate(vectors["in.x1"], vectors["in.x0"], vectors["in.t"])
    velocity = model.velocity(x_t, vectors["in.t"], vectors.condition)
    return per_sample_loss(velocity, target(vectors["in.x1"], vectors["in.x0"]))


def test_loss_and_gradients(vectors: Golden) -> None:
    model = vectors.model()
    near(interpolate(vectors["in.x1"], vectors["in.x0"], vectors["in.t"]), vectors["out.loss.xt"], 1e-6)
    near(target(vectors["in.x1"], vectors["in.x0"]), vectors["out.loss.target"], 0)
    near(time_of_normal(vectors["in.noise_t"]), vectors["out.loss.t_from_normal"], 1e-6)
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
        near(gradient, expected, 1e-4 * expected.abs().max().item())
    for name, norm in vectors.meta["grad_norms"].items():
        gradient = parameters[name].grad
        assert gradient is not None and abs(gradient.norm().item() - norm) <= 1e-4 * norm + 1e-6, name


def test_loss_of_the_other_direction(vectors: Golden) -> None:
    """Upstream can also run from noise at 0 to data at 1: data and noise change places."""
    model, x0, x1, t = vectors.model(), vectors["in.x0"], vectors["in.x1"], vectors["in.t"]
    near(interpolate(x0, x1, t), vectors["out.loss_forwardflow.xt"], 1e-6)
    with torch.no_grad():
        velocity = model.velocity(vectors["out.loss.xt"], t, vectors.condition)
    near(velocity, vectors["out.loss.pred"], 5e-5)
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
    near(velocity, vectors["out.train3.velocity_after"], 2e-4)


def test_untrained_output_is_exactly_zero() -> None:
    config = dict(latent_dim=4, text_dim=6, text_c_dim=5, hidden_dim=32, depth=3, fused_depth=1, num_heads=2)
    model = FluxAudio(**config, latent_seq_len=9, text_seq_len=4, ffn_multiple=16)
    assert model.audio_input_proj[2].w1.weight.shape[0] == 96  # floor(2/3 * 128) = 85, up to a multiple of 16
    out = model(torch.randn(2, 9, 4), torch.rand(2), torch.randn(2, 4, 6), torch.randn(2, 5))
    assert out.shape == (2, 9, 4) and torch.equal(out, torch.zeros_like(out))


def _variants(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    text_c = state["empty_string_feat_c"]
    return {
        "plain": state,
        "ema": {f"ema_model.{k}": v for k, v in state.items()}
        | {"initted": torch.ones(1), "step": torch.ones(1), "online_model.x": torch.ones(1)},
        "row": state | {"empty_string_feat_c": text_c[None]},
        "without": {k: v for k, v in state.items() if k != "empty_string_feat_c"},
        "tables": state | {"latent_rot": torch.ones(1), "text_rot": torch.ones(1), "t_embed.freqs": torch.ones(128)},
    }


@pytest.mark.parametrize("variant", ["plain", "ema", "row", "without", "tables"])
def test_published_import_and_export(vectors: Golden, variant: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(_variants(vectors.state)[variant], path)
    model = FluxModel(FluxAudio(**vectors.meta["model_config"]))
    load_published(model, read_published(path))
    exported = export_published(model)
    assert list(sorted(exported)) == sorted(vectors.state)
    for name, value in vectors.state.items():
        kept = torch.zeros_like(value) if (variant, name) == ("without", "empty_string_feat_c") else value
        assert torch.equal(exported[name], kept) and exported[name].is_contiguous(), name


def test_foreign_checkpoints_are_one_clear_line(vectors: Golden, tmp_path: Path) -> None:
    model, state = vectors.model(), vectors.state
    first = next(k for k in state if k.endswith("w1.weight"))
    bad = {
        "lacks": {k: v for k, v in state.items() if k != first},
        "unknown": state | {"score_embed.mlp.0.weight": torch.ones(3, 3)},
        "shapes": state | {first: torch.ones(3, 3, 3)},
        "non-finite": state | {first: torch.full_like(state[first], float("nan"))},
    }
    before = export_published(model)
    for word, broken in bad.items():
        with pytest.raises(ValueError, match=word) as error:
            load_published(model, broken)
        assert "\n" not in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in export_published(model).items()), "something was half loaded"
    path = tmp_path / "cut.pth"
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for name, expected in (("cut.pth", ValueError), ("absent.pth", FileNotFoundError)):
        with pytest.raises(expected) as error:
            read_published(tmp_path / name)
        assert "\n" not in str(error.value) and name in str(error.value)


class _Shout:
    """Writes a file when it is unpickled by whoever runs the code of a pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    heard, path = tmp_path / "heard", tmp_path / "foreign.pth"
    torch.save({"weights": {"a": torch.ones(1)}, "surprise": _Shout(heard)}, path)
    with pytest.raises(ValueError, match="cannot be read as FluxAudio checkpoint") as error:
        read_published(path)
    assert "\n" not in str(error.value) and not heard.exists()


def test_containers_of_training_runs_are_opened(vectors: Golden, tmp_path: Path) -> None:
    for name, content in (
        ("trainer", {"it": 7, "weights": vectors.state, "optimizer": {"lr": 1.0}}),
        ("lightning", {"state_dict": vectors.state, "epoch": 3}),
        ("empty", {"it": 7}),
        ("list", [1, 2]),
    ):
        path = tmp_path / f"{name}.pth"
        torch.save(content, path)
        if name in ("trainer", "lightning"):
            assert set(read_published(path)) == set(vectors.state)
        else:
            with pytest.raises(ValueError, match="no state dict") as error:
                read_published(path)
            assert "\n" not in str(error.value)


def test_compiled_blocks_compute_the_same_and_keep_their_names(vectors: Golden) -> None:
    model, compiled = vectors.model(), vectors.model()
    compiled.backbone.compile_blocks(backend="aot_eager")
    assert list(compiled.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        near(compiled.velocity(vectors["in.latent"], vectors["in.t"], vectors.condition), vectors["out.velocity"], 5e-5)
    _losses(compiled, vectors).mean().backward()
    _losses(model, vectors).mean().backward()
    for ours, theirs in zip(compiled.parameters(), model.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        near(ours.grad, theirs.grad, 1e-5 + 1e-4 * theirs.grad.abs().max().item())
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


def test_wrong_sizes_are_one_clear_line() -> None:
    config = dict(latent_dim=4, text_dim=6, text_c_dim=5, hidden_dim=32, depth=2, fused_depth=1, num_heads=2)
    model = FluxAudio(**config, latent_seq_len=9, text_seq_len=4)
    with pytest.raises(ValueError, match="latent_dim 4"):
        model(torch.randn(2, 9, 5), torch.rand(2), torch.randn(2, 4, 6), torch.randn(2, 5))
    with pytest.raises(ValueError, match="text_c_dim 5"):
        model(torch.randn(2, 9, 4), torch.rand(2), torch.randn(2, 4, 6), torch.randn(2, 6))
