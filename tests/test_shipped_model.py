"""The shipped trunk: what rounding to bytes costs, how it is unpacked, and that it plays without being asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from experiments.reference import SHIPPED, checked
from experiments.shipped_trunk import main
from fluxlight.backbone import FluxAudio
from fluxlight.bundle import load_bundle, read_recipe, save_bundle
from fluxlight.cli import main as fluxlight
from fluxlight.generate.shipped import FILE, from_bytes, pack, to_bytes, unpack
from fluxlight.metrics.reference import Reference
from fluxlight.model import FluxModel
from fluxlight.types import Condition

SIZES = {"latent_dim": 4, "text_dim": 6, "text_c_dim": 5, "hidden_dim": 32, "depth": 2, "fused_depth": 1,
         "num_heads": 2, "latent_seq_len": 8, "text_seq_len": 3, "ffn_multiple": 32}  # fmt: skip


def small_model() -> FluxModel:
    torch.manual_seed(0)
    model = FluxModel(FluxAudio(**SIZES), None)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return model.eval()


def test_bytes_are_within_half_a_step_of_each_row():
    weight = torch.tensor([[1.0, -0.3, 0.004], [0.01, 0.002, -0.01]])
    state = {"a.weight": weight, "a.bias": torch.tensor([0.1234567]), "text": torch.rand(3, 2)}
    kept = to_bytes(state)
    assert kept["a.weight"].dtype == torch.int8 and kept["a.weight"].tolist() == [[127, -38, 1], [127, 25, -127]]
    again = from_bytes(kept)
    step = torch.tensor([[1.0], [0.01]]) / 127
    assert bool(((again["a.weight"] - weight).abs() <= step / 2 + 1e-9).all())
    # what is no matrix of weights stays what it is, texts too
    assert torch.equal(again["a.bias"], state["a.bias"]) and torch.equal(again["text"], state["text"])
    assert set(again) == set(state)


def test_a_packed_trunk_is_the_trunk_within_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = small_model()
    save_bundle(tmp_path / "run/bundle", model, {"update": 3})
    monkeypatch.setattr("fluxlight.generate.shipped.read_pipeline", lambda run: _Plain())
    identity = pack(tmp_path / "run", tmp_path / "packed.safetensors", {"updates": 3})
    again = load_bundle(unpack(tmp_path / "out", tmp_path / "packed.safetensors"))
    x, condition = torch.randn(4, 8, 4), Condition(torch.randn(4, 3, 6), torch.randn(4, 5))
    with torch.no_grad():
        one, two = (m.velocity(x, 0.5, condition, None) for m in (model, again))
    assert 0 < float((one - two).norm() / one.norm()) < 0.02
    assert read_recipe(tmp_path / "out")["info"] == {"update": 3, "pipeline": {"codec": "none"}, "shipped": identity}


class _Plain:
    def plain(self) -> dict[str, str]:
        return {"codec": "none"}


def test_a_damaged_file_is_one_line(tmp_path: Path):
    tensors = load_file(FILE)
    with safe_open(str(FILE), "pt") as file:
        header = file.metadata()
    name = next(name for name, value in tensors.items() if value.dtype == torch.int8)
    tensors[name] = tensors[name] + 1
    save_file(tensors, tmp_path / "bad.safetensors", header)
    with pytest.raises(ValueError, match="the file is damaged"):
        unpack(tmp_path / "out", tmp_path / "bad.safetensors")
    (tmp_path / "page.safetensors").write_text("<html>")
    with pytest.raises(ValueError, match=r"page\.safetensors is not a readable safetensors file"):
        unpack(tmp_path / "out", tmp_path / "page.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no weights of trunk.*experiments\.shipped_trunk --pack"):
        unpack(tmp_path / "out", tmp_path / "absent.safetensors")


def test_generate_plays_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    command = ["generate", "a calm piano piece", "--out", str(tmp_path / "clips"), "--steps", "4"]
    assert fluxlight(command) == 0
    said = capsys.readouterr()
    assert "1 clip -> " in said.out and "no --model: this is the small model that comes with fluxlight" in said.err
    audio, rate = soundfile.read(next((tmp_path / "clips").glob("*.wav")))
    assert rate == 44_100 and len(audio) == 441_000 and float(np.sqrt(np.mean(audio**2))) > 0.01


def test_the_shipped_one_unpacks_to_a_model_of_this_world(tmp_path: Path):
    assert main(["--out", str(tmp_path)]) == 0
    recipe = read_recipe(tmp_path / "bundle")
    assert recipe["head"] is None and recipe["info"]["shipped"].startswith("trunk-v1-")
    state = load_bundle(tmp_path / "bundle").state_dict()
    assert all(bool(torch.isfinite(value).all()) for value in state.values() if value.is_floating_point())
    before = (tmp_path / "bundle/weights.safetensors").read_bytes()
    assert main(["--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again/bundle/weights.safetensors").read_bytes() == before


def test_the_shipped_reference_is_of_the_judge_of_today():
    reference = Reference.load(checked(SHIPPED))
    assert reference.frame()["n"] == 700
