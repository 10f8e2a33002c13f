"""The TuneJury head: golden parity of the released layouts, the ranker's numbers, calibration."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from fluxlight.rewards.calibration import (
    Affine,
    anchor_calibration,
    expected_calibration_error,
    pair_accuracy,
    ranknet_loss,
)
from fluxlight.rewards.tunejury import TuneJury

LAYOUTS = {
    "tunejury_2048": ("clap_audio", "mert", "clap_text"),
    "A1_clap_audio_only_512": ("clap_audio",),
    "A5_clap_audio_text_1024": ("clap_audio", "clap_text"),
}


@pytest.fixture(scope="module")
def vectors(golden):
    return load_file(golden / "tunejury_golden.safetensors")


def part(vectors, name):
    return {key.removeprefix(f"{name}.sd."): value for key, value in vectors.items() if key.startswith(f"{name}.sd.")}


@pytest.mark.parametrize("name", LAYOUTS)
def test_released_layouts_are_recognised_and_score_as_published(vectors, golden, name):
    head = TuneJury.from_state_dict(part(vectors, name))
    assert tuple(key for key, _ in head.inputs) == LAYOUTS[name]
    assert head.widths == (1024, 512, 256, 128)
    expected = json.loads((golden / "tunejury_golden.json").read_text())["variants"][name]
    assert sum(p.numel() for p in head.parameters()) == expected["params"]
    with torch.no_grad():
        a, b = head(vectors[f"{name}.in.x_a"]), head(vectors[f"{name}.in.x_b"])
    assert torch.allclose(a, vectors[f"{name}.out.score_a"].squeeze(1), atol=2e-5)
    assert torch.allclose(a - b, vectors[f"{name}.out.pair_logit_eval"].squeeze(1), atol=4e-5)
    exported = head.export()
    assert exported.keys() == part(vectors, name).keys()
    assert all(torch.equal(exported[key], value) for key, value in part(vectors, name).items())


@pytest.mark.parametrize("name", LAYOUTS)
def test_training_margin_and_loss_are_the_published_ones(vectors, name):
    head = TuneJury.from_state_dict(part(vectors, name)).train()
    for module in head.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    margin = head(vectors[f"{name}.in.x_a"]) - head(vectors[f"{name}.in.x_b"])
    assert torch.allclose(margin, vectors[f"{name}.out.pair_logit_train_dropout0"].reshape(-1), atol=1e-4)
    loss = ranknet_loss(margin, vectors[f"{name}.in.target"])
    assert loss.item() == pytest.approx(vectors[f"{name}.out.bce_train_dropout0"].item(), rel=1e-5)


def test_the_real_released_file_loads_and_scores(shared, vectors):
    head = TuneJury.from_file(shared / "tunejury" / "tunejury_muq_leave_MA.pt")
    assert head.prefix == "score" and head.widths == (512, 256, 128, 64)
    with torch.no_grad():
        score = head(vectors["muq_leave_MA.in.x_a"])
    assert torch.allclose(score, vectors["muq_leave_MA.out.score_a"].squeeze(1), atol=2e-5)
    names = torch.load(shared / "tunejury" / "tunejury_muq_leave_MA.pt", map_location="cpu", weights_only=True)
    assert set(head.export()) == set(names)


def test_bad_heads_end_with_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no TuneJury head"):
        TuneJury.from_file(tmp_path / "none.pt")
    (tmp_path / "broken.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="cannot be read"):
        TuneJury.from_file(tmp_path / "broken.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="cannot be read"):
        TuneJury.from_file(tmp_path / "broken.safetensors")
    save_file({"encoder.weight": torch.zeros(3, 3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="not a TuneJury head"):
        TuneJury.from_file(tmp_path / "foreign.safetensors")
    state = TuneJury(inputs=[("clap_audio", 8)], widths=(4, 2)).state_dict()
    state["net.0.weight"] = state["net.0.weight"] * math.nan
    with pytest.raises(ValueError, match="non-finite"):
        TuneJury.from_state_dict(state)
    short = TuneJury(inputs=[("clap_audio", 8)], widths=(4, 2)).state_dict()
    del short["net.1.bias"]
    with pytest.raises(ValueError, match="not a TuneJury head"):
        TuneJury.from_state_dict(short)
    with pytest.raises(ValueError, match="expected"):
        TuneJury(inputs=[("clap_audio", 8)], widths=(4, 2))(torch.zeros(2, 9))


def test_accuracy_leaves_ties_out_and_ece_is_the_binned_gap():
    margin = torch.tensor([2.0, -1.0, 0.5, 3.0])
    target = torch.tensor([1.0, 1.0, 0.5, 0.0])
    assert pair_accuracy(margin, target) == (pytest.approx(1 / 3), 3)
    # one bin, all right: the gap is 1 - mean confidence
    sure = torch.tensor([0.3, 1.0, 2.0])
    gap = 1 - torch.sigmoid(sure).mean().item()
    assert expected_calibration_error(sure, torch.ones(3), bins=1) == pytest.approx(gap)
    # perfectly calibrated margins: outcomes drawn with probability sigmoid(margin)
    generator = torch.Generator().manual_seed(0)
    margin = torch.randn(40000, generator=generator) * 2
    target = (torch.rand(40000, generator=generator) < torch.sigmoid(margin)).float()
    assert expected_calibration_error(margin, target) < 0.01
    assert expected_calibration_error(4 * margin, target) > 0.05


def test_anchor_calibration_finds_planted_biases():
    generator = torch.Generator().manual_seed(1)
    truth = {"x": 0.0, "y": 1.5, "z": -0.8}
    names = list(truth)
    pick = torch.randint(0, 3, (6000, 2), generator=generator)
    a, b = [[names[int(i)] for i in pick[:, side]] for side in (0, 1)]
    r_a, r_b = torch.randn(2, 6000, generator=generator)
    bias_a, bias_b = (torch.tensor([truth[n] for n in side]) for side in (a, b))
    won = (torch.rand(6000, generator=generator) < torch.sigmoid(r_a - bias_a - r_b + bias_b)).float()
    found = anchor_calibration(r_a, r_b, a, b, won, anchor="x")
    assert found["x"] == 0.0
    assert found["y"] == pytest.approx(1.5, abs=0.15) and found["z"] == pytest.approx(-0.8, abs=0.15)
    tight = anchor_calibration(r_a, r_b, a, b, won, anchor="x", strength=1e5)
    assert abs(tight["y"]) < 0.1
    with pytest.raises(ValueError, match="anchor"):
        anchor_calibration(r_a, r_b, a, b, won, anchor="w")


def test_affine_gives_the_declared_scale_and_keeps_the_order():
    raw = torch.randn(500, generator=torch.Generator().manual_seed(2)) * 7 - 3
    score = Affine.fit(raw)(raw)
    assert score.mean().item() == pytest.approx(0.5, abs=1e-4) and score.std().item() == pytest.approx(1.2, abs=1e-4)
    assert torch.equal(score.argsort(), raw.argsort())
    with pytest.raises(ValueError, match="spread"):
        Affine.fit(torch.ones(4))
