"""v1's score in v2: as published, scaled to the tokens it joins, or learned anew by the head alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_heads import B, D, L, T, model_with
from small_world import fitted, make_data, make_stage, wake

from fluxlight.backbone import Injection
from fluxlight.bundle import load_bundle, save_bundle
from fluxlight.heads import GlobalAdaLN, InputAdd  # type: ignore[attr-defined]
from fluxlight.types import Condition


@torch.no_grad()
def test_the_score_is_as_large_beside_the_tokens_as_beside_the_condition() -> None:
    model = model_with(GlobalAdaLN)
    backbone, draw = model.backbone, torch.Generator().manual_seed(3)
    prepared = backbone.project_text(torch.randn(B, T, 6, generator=draw), torch.randn(B, 7, generator=draw))
    tokens, t = 50 * torch.randn(B, L, backbone.ports.width, generator=draw), torch.rand(B, generator=draw)
    embedding = 0.1 * torch.randn(B, 1, backbone.ports.width, generator=draw)
    condition = backbone.t_embed(t)[:, None] + prepared.text_c
    for row in range(B):
        share = tokens[row].square().mean().sqrt() / condition[row].square().mean().sqrt()
        assert share > 10
        one = torch.tensor([row])
        mine = type(prepared)(prepared.text[one], prepared.text_c[one])
        mine.injection = Injection(relative=embedding[one])
        found = backbone.flow(tokens[one], t[one], mine)
        mine.injection = Injection(input=embedding[one] * share)
        assert torch.allclose(found, backbone.flow(tokens[one], t[one], mine), atol=1e-5)
        mine.injection = Injection(input=embedding[one])
        assert not torch.allclose(found, backbone.flow(tokens[one], t[one], mine), atol=1e-3)


@torch.no_grad()
def test_both_scales_take_v1s_weights_and_agree_without_a_score(tmp_path: Path) -> None:
    v1, draw = model_with(GlobalAdaLN), torch.Generator().manual_seed(3)
    published, scaled = (
        model_with(lambda ports, scale=scale: InputAdd(ports, scale), live=False) for scale in ("published", "tokens")
    )
    for model in (published, scaled):
        model.load_state_dict(v1.state_dict())
    x, t = torch.randn(B, L, D, generator=draw), torch.rand(B, generator=draw)
    condition = Condition(torch.randn(B, T, 6, generator=draw), torch.randn(B, 7, generator=draw))
    assert torch.equal(published.velocity(x, t, condition, None), scaled.velocity(x, t, condition, None))
    score = torch.ones(B)
    assert not torch.allclose(published.velocity(x, t, condition, score), scaled.velocity(x, t, condition, score))
    # a bundle knows which
    back = load_bundle(save_bundle(tmp_path / "b", scaled))
    assert back.head.scale == "tokens"
    assert torch.equal(back.eval().velocity(x, t, condition, score), scaled.velocity(x, t, condition, score))


def test_the_head_alone_is_trained_again(tmp_path: Path) -> None:
    stage = make_stage(head=InputAdd, train_only=["head."], optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2))
    wake(stage.model, 0.1)
    before = {name: value.detach().clone() for name, value in stage.model.named_parameters()}
    fitted(tmp_path, "run", stage, make_data(tmp_path), max_steps=4)
    moved = {name for name, value in stage.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("head.") for name in moved)
    with pytest.raises(ValueError, match=r"train_only: no parameter begins with 'heads\.'"):
        make_stage(head=InputAdd, train_only=["heads."])
