"""Every score head, found by type: alive, smooth, null when dropped, and the backbone untouched where it must be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from small_heads import HEADS, B, D, L, T, backbone, model_with, perturb
from torch import Tensor

import fluxlight.heads
from fluxlight.backbone import Injection
from fluxlight.bundle import init_from, save_bundle
from fluxlight.guidance import guide
from fluxlight.heads import AudioPrepend, BlockAdaLN, GlobalAdaLN, InputAdd, ScoreHead, TextPrepend
from fluxlight.model import FluxModel
from fluxlight.types import Condition

every_head = pytest.mark.parametrize("head", HEADS, ids=lambda c: c.__name__)


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Condition]:
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return draw(B, L, D), torch.tensor([0.1, 0.5, 0.9]), Condition(draw(B, T, 6), draw(B, 7))


def test_the_five_heads_are_found() -> None:
    assert {GlobalAdaLN, InputAdd, AudioPrepend, BlockAdaLN, TextPrepend} <= set(HEADS)
    assert len({head.__module__ for head in HEADS}) == len(HEADS), "each head is one file"
    assert "our choice" in str(BlockAdaLN.__doc__), "v4 is not published, and its file says so"


SIXTH = '''"""A sixth head."""

from fluxlight.heads.base import Injection, ScoreHead


class Sixth(ScoreHead):
    """Zero-initialised like the others."""

    def inject(self, embedding, keep):
        return Injection(condition=-embedding[:, None])
'''


def test_a_new_head_is_tested_on_birth(tmp_path: Path) -> None:
    """A new file and nothing else: every test of this file that runs over all heads runs over it."""
    root = Path(fluxlight.heads.__file__).parents[2]
    ignore = shutil.ignore_patterns("embedded", "__pycache__")
    shutil.copytree(root / "fluxlight", tmp_path / "fluxlight", ignore=ignore)
    shutil.copytree(root / "tests", tmp_path / "tests", ignore=ignore)
    (tmp_path / "fluxlight/heads/sixth.py").write_text(SIXTH)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/test_heads.py",
        "-k",
        "Sixth and not birth",
    ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    tests = Path(__file__).read_text().count("\n@every_head\n")
    assert done.returncode == 0 and f"{tests} passed" in done.stdout, done.stdout[-2000:]


@every_head
@torch.no_grad()
def test_output_follows_the_score_smoothly(head: type[ScoreHead], inputs: tuple) -> None:
    model = model_with(head)

    def at(score: float) -> Tensor:
        return model.velocity(*inputs, torch.full((B,), score))

    base = at(1.0)
    steps = [(at(1.0 + step) - base).abs().max().item() for step in (1e-3, 2e-3, 1.0)]
    assert steps[2] > 1e-3, "the head is dead"
    assert steps[0] < 0.05 * max(steps[2], 0.1), "a thousandth of the score moves the output by a jump"
    assert steps[1] == pytest.approx(2 * steps[0], rel=0.2), "small steps of the score must act linearly"
    assert torch.isfinite(at(-50.0)).all() and (at(-2.0) - at(2.0)).abs().max() > 1e-3, "scores may be negative"


@every_head
@torch.no_grad()
def test_every_row_has_its_own_score(head: type[ScoreHead], inputs: tuple) -> None:
    model, (x, t, condition) = model_with(head), inputs
    scores = torch.tensor([-1.0, 0.3, 2.0])
    together = model.velocity(x, t, condition, scores)
    for i in range(B):
        row = Condition(condition.text[i : i + 1], condition.text_c[i : i + 1])
        alone = model.velocity(x[i : i + 1], t[i : i + 1], row, scores[i : i + 1])
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5, rtol=0)


@every_head
@torch.no_grad()
def test_null_is_dropped_is_no_score_and_is_no_real_score(head: type[ScoreHead], inputs: tuple) -> None:
    model, scores = model_with(head), torch.tensor([-1.0, 0.3, 2.0])
    null = model.velocity(*inputs)
    nothing = torch.zeros(B, dtype=torch.bool)
    assert torch.equal(model.velocity(*inputs, scores, nothing), null)
    assert torch.equal(model.velocity(*inputs, torch.full((B,), float("nan")), nothing), null)
    for score in (0.0, -1.0, 5.0):
        assert (model.velocity(*inputs, torch.full((B,), score)) - null).abs().flatten(1).amax(1).min() > 1e-4
    mixed = model.velocity(*inputs, scores, torch.tensor([True, False, True]))
    torch.testing.assert_close(mixed[1], null[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(mixed[0], model.velocity(*inputs, scores)[0], atol=1e-6, rtol=0)


def hidden(injection: Injection) -> Injection:
    """The injection with its prepended tokens, if any, masked out."""
    changes = {}
    for stream in ("latent", "text"):
        tokens = getattr(injection, f"{stream}_tokens")
        if tokens is not None:
            changes[f"{stream}_keep"] = torch.zeros(tokens.shape[:2], dtype=torch.bool)
    return replace(injection, **changes)


@every_head
@torch.no_grad()
def test_a_new_head_leaves_the_backbone_as_it_is(head: type[ScoreHead], inputs: tuple) -> None:
    """Zero-initialised: exactly the head-less model, or so with its token masked."""
    x, t, condition = inputs
    model = model_with(head, live=False)
    assert model.head is not None
    injection = model.head(torch.tensor([-1.0, 0.3, 2.0]), torch.ones(B, dtype=torch.bool))
    bare = model.backbone(x, t, condition.text, condition.text_c)
    with_head = model.backbone(x, t, condition.text, condition.text_c, hidden(injection))
    prepends = injection.latent_tokens is not None or injection.text_tokens is not None
    torch.testing.assert_close(with_head, bare, atol=2e-5 if prepends else 0, rtol=0)
    assert bare.std() > 0.01


@pytest.mark.parametrize("head", [AudioPrepend, TextPrepend])
@pytest.mark.parametrize("tokens", [1, 3])
@torch.no_grad()
def test_a_live_masked_token_is_not_there(head: type, tokens: int, inputs: tuple) -> None:
    """With mask_null the null score of a live prepend head is the head-less model, and a real score is not."""
    model = model_with(lambda ports: head(ports, tokens=tokens, mask_null=True))
    bare = FluxModel(model.backbone).velocity(*inputs)
    torch.testing.assert_close(model.velocity(*inputs), bare, atol=2e-5, rtol=0)
    real = model.velocity(*inputs, torch.ones(B), torch.tensor([True, False, True]))
    torch.testing.assert_close(real[1], bare[1], atol=2e-5, rtol=0)
    assert (real[0] - bare[0]).abs().max() > 1e-3


@every_head
def test_output_length_is_the_latents(head: type[ScoreHead], inputs: tuple) -> None:
    model = model_with(head)
    assert model.velocity(*inputs, torch.ones(B)).shape == (B, L, D)
    assert model.velocity(*inputs).shape == (B, L, D)


@every_head
def test_gradients_reach_every_head_parameter(head: type[ScoreHead], inputs: tuple) -> None:
    model = model_with(head)
    assert model.head is not None
    model.velocity(*inputs, torch.tensor([-1.0, 0.3, 2.0])).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient: distributed training would stop"
    for name, parameter in model.head.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@every_head
def test_a_zero_initialised_head_starts_to_learn(head: type[ScoreHead], inputs: tuple) -> None:
    model = model_with(head, live=False)
    model.velocity(*inputs, torch.tensor([-1.0, 0.3, 2.0])).square().mean().backward()
    assert model.head is not None
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.head.parameters())


@every_head
@torch.no_grad()
def test_the_negative_branch_never_sees_the_score(head: type[ScoreHead], inputs: tuple) -> None:
    model, (x, _, condition) = model_with(head), inputs
    model.set_negative(torch.ones(T, 6), torch.ones(7))
    negative = model.velocity(x, 0.4, model.negative_condition(B))
    for score in (-3.0, 4.0):
        guided = guide(model, condition, score, weight=0.0)  # the negative branch alone
        torch.testing.assert_close(guided(x, 0.4), negative, atol=1e-6, rtol=0)
        pieces = guide(model, condition, score, weight=3.0)
        expected = 3 * model.velocity(x, 0.4, condition, torch.full((B,), score)) - 2 * negative
        torch.testing.assert_close(pieces(x, 0.4), expected, atol=1e-5, rtol=0)
        alone = guide(model, condition, score, weight=0.0, score_weight=0.0)
        torch.testing.assert_close(alone(x, 0.4), negative, atol=1e-6, rtol=0)


@every_head
def test_non_finite_scores_are_one_clear_line(head: type[ScoreHead], inputs: tuple) -> None:
    model = model_with(head)
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="non-finite") as error:
            model.velocity(*inputs, torch.tensor([0.0, value, 1.0]))
        assert "\n" not in str(error.value)


@every_head
def test_head_holds_the_shared_embedder(head: type[ScoreHead]) -> None:
    torch.manual_seed(0)
    ours = {k: v.shape for k, v in model_with(head).state_dict().items() if k.startswith("head.embedder.")}
    theirs = {k: v.shape for k, v in model_with(GlobalAdaLN).state_dict().items() if k.startswith("head.")}
    assert ours == theirs
    assert theirs["head.embedder.mlp.0.weight"] == (32, 256) and theirs["head.embedder.mlp.2.weight"] == (32, 32)


@torch.no_grad()
def test_v1_moves_into_v2_and_back_strictly(tmp_path: Path, inputs: tuple) -> None:
    scores = torch.tensor([-1.0, 0.3, 2.0])
    v1, v2, back = model_with(GlobalAdaLN), model_with(InputAdd, live=False), model_with(GlobalAdaLN, live=False)
    perturb(v2.backbone, 9)
    perturb(back, 10)
    init_from(v2, save_bundle(tmp_path / "v1", v1))
    assert all(torch.equal(v, v2.state_dict()[k]) for k, v in v1.state_dict().items())
    assert set(v1.state_dict()) == set(v2.state_dict())
    assert (v1.velocity(*inputs, scores) - v2.velocity(*inputs, scores)).abs().max() > 1e-3
    init_from(back, save_bundle(tmp_path / "v2", v2))
    assert torch.equal(back.velocity(*inputs, scores), v1.velocity(*inputs, scores))


def test_injection_ports_are_all_filled_by_some_head() -> None:
    keep, scores = torch.ones(B, dtype=torch.bool), torch.ones(B)
    filled = set()
    for head in HEADS:
        injection = head(backbone().ports)(scores, keep)
        filled |= {f.name for f in fields(injection) if getattr(injection, f.name) is not None}
    assert {"input", "condition", "latent_tokens", "text_tokens", "blocks"} <= filled


def test_short_names_on_a_command_line() -> None:
    """jsonargparse finds a head by class name and late-constructs it from the ports."""
    from jsonargparse import ArgumentParser

    from fluxlight.backbone import Ports

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--head", type=Callable[[Ports], ScoreHead] | None)
    made = parser.instantiate_classes(parser.parse_args(["--head=AudioPrepend", "--head.tokens=2"]))
    head = made.head(Ports(width=32, depth=3))
    assert isinstance(head, AudioPrepend) and head.tokens == 2
    for kind in HEADS:
        made = parser.instantiate_classes(parser.parse_args([f"--head={kind.__name__}"]))
        assert type(made.head(Ports(width=32, depth=3))) is kind
    assert parser.parse_args(["--head=null"]).head is None
