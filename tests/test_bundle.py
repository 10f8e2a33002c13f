"""Bundles: what goes in comes out, strictly, and every misfit is one clear line."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_heads import HEADS, B, D, L, T, backbone, model_with, perturb

from fluxlight.backbone import FluxAudio
from fluxlight.bundle import (
    bundle_hash,
    export_published,
    init_from,
    load_bundle,
    load_published,
    read_recipe,
    save_bundle,
)
from fluxlight.heads import AudioPrepend, BlockAdaLN, GlobalAdaLN, ScoreHead
from fluxlight.model import FluxModel
from fluxlight.types import Condition


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


def same(a: FluxModel, b: FluxModel) -> bool:
    theirs = b.state_dict()
    return set(a.state_dict()) == set(theirs) and all(torch.equal(v, theirs[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize("head", [None, *HEADS], ids=lambda c: getattr(c, "__name__", "none"))
def test_round_trip(head: type[ScoreHead] | None, tmp_path: Path) -> None:
    model = model_with(head)
    model.set_latent_statistics(torch.arange(D) - 1.5, torch.arange(D) + 0.5)
    model.set_empty(torch.full((T, 6), 2.0), torch.full((7,), 3.0))
    model.set_negative(torch.full((T, 6), 4.0), torch.full((7,), 5.0))
    save_bundle(tmp_path / "b", model, {"stage": "sft", "steps": 3, "judges": ["a", "b"]})
    loaded = load_bundle(tmp_path / "b")
    assert same(model, loaded) and type(loaded.head) is type(model.head) and not loaded.training
    assert read_recipe(tmp_path / "b")["info"] == {"stage": "sft", "steps": 3, "judges": ["a", "b"]}
    assert torch.equal(loaded.negative_condition(2).text, torch.full((2, T, 6), 4.0))
    x, condition = torch.randn(B, L, D), Condition(torch.randn(B, T, 6), torch.randn(B, 7))
    score = torch.tensor([1.0, -1.0, 0.0])
    with torch.no_grad():
        assert torch.equal(model.velocity(x, 0.4, condition, score), loaded.velocity(x, 0.4, condition, score))


def test_settings_of_a_head_come_back(tmp_path: Path) -> None:
    model = FluxModel(backbone(), lambda ports: AudioPrepend(ports, tokens=3, mask_null=True))
    head = load_bundle(save_bundle(tmp_path, model)).head
    assert isinstance(head, AudioPrepend) and head.tokens == 3 and head.mask_null
    assert copy.deepcopy(model.head).init_args["tokens"] == 3  # type: ignore[union-attr]


def test_statistics_given_as_tensors_are_storable(tmp_path: Path) -> None:
    made = FluxAudio(2, 3, 4, 16, 2, 1, 2, 5, 3, latent_mean=torch.ones(2), latent_std=[2.0, 3.0])  # type: ignore[arg-type]
    loaded = load_bundle(save_bundle(tmp_path, FluxModel(made)))
    assert loaded.backbone.latent_mean.flatten().tolist() == [1, 1]
    assert yaml.safe_load((tmp_path / "model.yaml").read_text())["backbone"]["init_args"]["latent_mean"] == [1.0, 1.0]


def test_averaged_weights_lie_beside_the_raw_ones(tmp_path: Path) -> None:
    model, average = model_with(GlobalAdaLN), model_with(GlobalAdaLN)
    perturb(average, 7)
    ema = dict(average.named_parameters())  # parameters alone: the buffers are the model's
    save_bundle(tmp_path, model, ema=ema)
    assert same(load_bundle(tmp_path), model) and same(load_bundle(tmp_path, weights="ema"), average)
    assert bundle_hash(tmp_path) != bundle_hash(tmp_path, "ema")
    target = model_with(GlobalAdaLN)
    init_from(target, tmp_path, weights="ema")
    assert same(target, average)
    save_bundle(tmp_path, model)
    with pytest.raises(FileNotFoundError, match="ema.safetensors") as error:
        load_bundle(tmp_path, weights="ema")
    one_line(error)


def test_hash_is_of_the_weights_and_repeatable(tmp_path: Path) -> None:
    model = model_with(GlobalAdaLN)
    first = bundle_hash(save_bundle(tmp_path / "a", model, {"note": 1}))
    assert bundle_hash(save_bundle(tmp_path / "b", model, {"note": 2})) == first and len(first) == 16
    perturb(model, 3)
    assert bundle_hash(save_bundle(tmp_path / "b", model)) != first
    assert read_recipe(tmp_path / "b")["hash"]["raw"] == bundle_hash(tmp_path / "b")


def test_nothing_half_written(tmp_path: Path) -> None:
    model = model_with(GlobalAdaLN)
    save_bundle(tmp_path, model)
    before = bundle_hash(tmp_path)
    broken = model_with(GlobalAdaLN)
    with torch.no_grad():
        next(broken.parameters())[0] = float("nan")
    with pytest.raises(ValueError, match="non-finite") as error:
        save_bundle(tmp_path, broken)
    one_line(error)
    with pytest.raises(ValueError, match="info.a"):
        save_bundle(tmp_path, model_with(None), {"a": object()})
    assert bundle_hash(tmp_path) == before and same(load_bundle(tmp_path), model)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.yaml", "weights.safetensors"]


def test_wrong_folders_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model\.yaml") as error:
        load_bundle(tmp_path)
    assert str(tmp_path) in one_line(error)
    folder = save_bundle(tmp_path / "b", model_with(GlobalAdaLN))
    weights = folder / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="vouches") as cut:
        load_bundle(folder)
    one_line(cut)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors") as absent:
        load_bundle(folder)
    one_line(absent)
    weights.write_bytes(whole)
    for text, word in (("a: [", "recipe"), ("just text", "recipe")):
        (folder / "model.yaml").write_text(text)
        with pytest.raises(ValueError, match=word) as broken:
            load_bundle(folder)
        one_line(broken)


def test_recipes_make_backbones_and_heads_only(tmp_path: Path) -> None:
    folder = save_bundle(tmp_path, model_with(GlobalAdaLN))
    recipe = read_recipe(folder)
    for part, change, word in (
        ("head", {"class_path": "builtins.dict"}, "not a ScoreHead"),
        ("head", {"class_path": "fluxlight.heads.Absent"}, "cannot be imported"),
        ("backbone", {"init_args": {"size": 3}}, "do not fit"),
    ):
        (folder / "model.yaml").write_text(yaml.safe_dump({**recipe, part: {**recipe[part], **change}}))
        with pytest.raises(ValueError, match=word) as error:
            load_bundle(folder)
        one_line(error)


def test_init_from_is_strict(tmp_path: Path) -> None:
    text_only = save_bundle(tmp_path / "row0", model_with(None))
    v1 = save_bundle(tmp_path / "v1", model_with(GlobalAdaLN))
    v4, bare = model_with(BlockAdaLN), model_with(None)
    perturb(v4, 11)
    before = {k: v.clone() for k, v in v4.state_dict().items()}
    with pytest.raises(ValueError, match="lacks head.embedder") as lacks:
        init_from(v4, text_only)
    assert "allow_new" in one_line(lacks)
    with pytest.raises(ValueError, match=r"lacks head\.maps\.weight"):
        init_from(v4, v1)
    with pytest.raises(ValueError, match="unknown head.embedder") as unknown:
        init_from(bare, v1)
    assert "skip" in one_line(unknown)
    assert all(torch.equal(v, before[k]) for k, v in v4.state_dict().items()), "something was half loaded"

    init_from(v4, text_only, allow_new=["head."])
    state = v4.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in load_bundle(text_only).state_dict().items())
    assert torch.equal(state["head.maps.weight"], before["head.maps.weight"])
    with pytest.raises(ValueError, match=r"has head\. in part, it lacks head\.maps\.weight") as part:
        init_from(v4, v1, allow_new=["head."])
    assert "skip" in one_line(part)
    init_from(v4, v1, allow_new=["head.maps"])
    name = "head.embedder.mlp.2.weight"
    assert torch.equal(v4.state_dict()[name], load_file(v1 / "weights.safetensors")[name])
    init_from(bare, v1, skip=["head."])
    perturb(v4, 12)
    kept = v4.state_dict()["head.embedder.mlp.2.weight"].clone()
    init_from(v4, v1, skip=["head."], allow_new=["head."])
    assert torch.equal(v4.state_dict()["head.embedder.mlp.2.weight"], kept), "the head starts anew"


def test_init_from_refuses_another_function_of_the_same_shapes(tmp_path: Path) -> None:
    sizes = dict(latent_dim=2, text_dim=3, text_c_dim=4, hidden_dim=16, depth=2, fused_depth=1, num_heads=2)
    sizes |= dict(latent_seq_len=5, text_seq_len=3)
    folder = save_bundle(tmp_path, FluxModel(FluxAudio(**sizes)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="use_rope True, this one False") as error:
        init_from(FluxModel(FluxAudio(**sizes, use_rope=False)), folder)  # type: ignore[arg-type]
    one_line(error)
    init_from(FluxModel(FluxAudio(**{**sizes, "latent_seq_len": 9})), folder)  # type: ignore[arg-type]


def test_published_weights_go_through_a_model_with_a_head() -> None:
    source, target = model_with(GlobalAdaLN), model_with(GlobalAdaLN, live=False)
    with pytest.raises(ValueError, match="head_prefix") as error:
        export_published(source)
    one_line(error)
    state = export_published(source, head_prefix="score_embed.")
    with pytest.raises(ValueError, match="head_prefix"):
        load_published(target, state)
    load_published(target, state, head_prefix="score_embed.")
    assert same(source, target)
    perturb(target.backbone, 5)
    kept = {k: v.clone() for k, v in target.head.state_dict().items()}  # type: ignore[union-attr]
    load_published(target, export_published(source.backbone))
    assert same(source, target) and all(torch.equal(v, kept[k]) for k, v in target.head.state_dict().items())  # type: ignore[union-attr]


def test_a_published_file_is_a_start_too(tmp_path: Path) -> None:
    """init_from takes the .pth of the published weights: strictly, and a score head only when told to start anew."""
    source, path = model_with(GlobalAdaLN), tmp_path / "published.pth"
    state = export_published(source.backbone)
    torch.save({f"ema_model.{k}": v for k, v in state.items()}, path)
    bare, headed = model_with(None), model_with(BlockAdaLN)
    for model in (bare, headed):
        perturb(model, 21)
    head = {k: v.clone() for k, v in headed.state_dict().items() if k.startswith("head.")}
    init_from(bare, path)
    assert all(torch.equal(v, state[k]) for k, v in bare.backbone.state_dict().items())
    with pytest.raises(ValueError, match="allow_new") as error:
        init_from(headed, path)
    one_line(error)
    init_from(headed, path, allow_new=["head."])
    assert all(torch.equal(v, state[k]) for k, v in headed.backbone.state_dict().items())
    assert all(torch.equal(headed.state_dict()[k], v) for k, v in head.items())
    assert len(bundle_hash(path)) == 16

    torch.save({**state, "score_embed.mlp.0.weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="unknown score_embed"):
        init_from(bare, path)
    init_from(bare, path, skip=["score_embed."])
    torch.save({**state, "final_layer.conv.bias": torch.full((D,), float("nan"))}, path)
    torch.save({"a.b": torch.ones(2)}, tmp_path / "foreign.pth")
    for name, word in (("published.pth", "non-finite values in final_layer"), ("foreign.pth", "lacks latent_mean")):
        with pytest.raises(ValueError, match=word) as bad:
            init_from(bare, tmp_path / name)
        assert name in one_line(bad)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="fetch it again") as cut:
        init_from(bare, path)
    one_line(cut)


@pytest.mark.parametrize("head", HEADS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("other", HEADS, ids=lambda c: c.__name__)
def test_the_wrong_head_for_the_weights_is_one_clear_line(
    head: type[ScoreHead], other: type[ScoreHead], tmp_path: Path
) -> None:
    """Heads with parameters of their own fit their own weights alone; the others share names and move (v1, v2, ...)."""
    folder, model = save_bundle(tmp_path, model_with(head)), model_with(other)
    if set(model.state_dict()) == set(model_with(head).state_dict()):
        init_from(model, folder)
        return
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match="head") as error:
        init_from(model, folder)
    assert "allow_new" in one_line(error)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()), "something was half loaded"


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, fluxlight.bundle, fluxlight.sample; print({'lightning', 'transformers'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"
