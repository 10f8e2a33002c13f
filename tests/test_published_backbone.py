"""The backbone's published sizes and files: parameter counts, state-dict names, import, export, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_backbone import Golden
from golden_backbone import vectors as vectors
from torch import Tensor

from fluxlight.backbone import FluxAudio
from fluxlight.model import FluxModel
from fluxlight.weights.fluxaudio import export_published, load_published, read_published

S = dict(text_dim=1024, text_c_dim=512, hidden_dim=448, num_heads=7, depth=12, fused_depth=8, text_seq_len=77)
SIZES: dict[str, dict[str, Any]] = {
    "s_16k": S | dict(latent_dim=20, latent_seq_len=312),
    "s_44k": S | dict(latent_dim=40, latent_seq_len=430),
    # the published count of L is that of 20-channel latents: 40 channels have 250,900 more
    "l": S | dict(latent_dim=20, latent_seq_len=312, hidden_dim=896, num_heads=14),
    "l_44k": S | dict(latent_dim=40, latent_seq_len=430, hidden_dim=896, num_heads=14),
}
TRAINABLE = {"s_16k": 120_106_388, "s_44k": 120_231_848, "l": 478_417_684, "l_44k": 478_417_684 + 250_900}


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


def test_wrong_sizes_are_one_clear_line() -> None:
    config = dict(latent_dim=4, text_dim=6, text_c_dim=5, hidden_dim=32, depth=2, fused_depth=1, num_heads=2)
    model = FluxAudio(**config, latent_seq_len=9, text_seq_len=4)
    with pytest.raises(ValueError, match="latent_dim 4"):
        model(torch.randn(2, 9, 5), torch.rand(2), torch.randn(2, 4, 6), torch.randn(2, 5))
    with pytest.raises(ValueError, match="text_c_dim 5"):
        model(torch.randn(2, 9, 4), torch.rand(2), torch.randn(2, 4, 6), torch.randn(2, 6))
