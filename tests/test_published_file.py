"""From a published file to audio in one command, and the overlay of 16 kHz."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from small_world import wake

from fluxlight.backbone import FluxAudio
from fluxlight.cli import main
from fluxlight.files import read_jsonl
from fluxlight.generate.published import NEGATIVE
from fluxlight.heads import GlobalAdaLN  # type: ignore[attr-defined]
from fluxlight.model import FluxModel
from fluxlight.weights.needs import needs, read_configs

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
EMBEDDED: dict[str, Any] = dict(latent_dim=64, text_dim=384, text_c_dim=128, latent_seq_len=72)
SMALL: dict[str, Any] = dict(hidden_dim=32, depth=2, fused_depth=1, num_heads=2, text_seq_len=77, ffn_multiple=16)


def published(path: Path, head: Any = None, **sizes: Any) -> Path:
    """A published file in miniature: names of a trainer's wrapper, counters beside, a score head under its own name."""
    torch.manual_seed(0)
    model = FluxModel(FluxAudio(**SMALL | sizes), head)
    wake(model, 0.05)
    state = {f"module.{k}": v for k, v in model.backbone.state_dict().items()}
    if model.head is not None:
        state |= {f"module.score_embed.{k}": v for k, v in model.head.state_dict(prefix="").items()}
    torch.save({"weights": state, "it": torch.tensor(3)}, path, pickle_protocol=4)
    return path


def test_one_command_makes_audio_of_it_with_its_head_or_without(tmp_path: Path, capsys: Any) -> None:
    path = published(tmp_path / "flux.pth", GlobalAdaLN, **EMBEDDED)
    words = ["generate", "a calm piano piece", "--model", str(path), "--steps", "1", "--raw", "--out"]
    assert main([*words, str(tmp_path / "x")]) == 2
    assert "--model.skip '[score_embed.]'" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "text"), "--skip", "score_embed."]) == 0
    said = capsys.readouterr()
    assert "1 clip ->" in said.out and "the published settings are used (25 steps, guidance 4)" in said.err
    head = ["--head", "GlobalAdaLN", "--head-prefix", "score_embed."]
    assert main([*words, str(tmp_path / "scored"), *head, "--score", "9"]) == 0
    clips = []
    for name in ("text", "scored"):
        row = read_jsonl(tmp_path / name / "manifest.jsonl")[0]
        assert row["settings"]["negative"] == NEGATIVE and row["seed"] == 42
        audio, rate = soundfile.read(tmp_path / name / row["file"])
        assert audio.shape == (441_000,) and rate == 44_100 and audio.std() > 1e-4
        clips.append(audio)
    assert np.abs(clips[0] - clips[1]).max() > 1e-3, "the score is heard"


@pytest.mark.parametrize(("sizes", "files"), [
    (dict(latent_dim=20, latent_seq_len=312), "v1-16.pth"), (dict(latent_dim=40, latent_seq_len=430), "v1-44.pth"),
])  # fmt: skip
def test_the_rate_follows_from_the_latents(
    tmp_path: Path, sizes: Any, files: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("FLUXLIGHT_WEIGHTS", str(tmp_path / "weights"))
    path = published(tmp_path / "flux.pth", text_dim=1024, text_c_dim=512, **sizes)
    assert main(["generate", "x", "--model", str(path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"{files} is not at" in said and f"fluxlight weights --fetch {files}" in said and said.count("\n") == 1
    path = published(tmp_path / "flux.pth", text_dim=7, text_c_dim=512, **sizes)
    assert main(["generate", "x", "--model", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "belong to no encoders and codec known here" in capsys.readouterr().err


def test_the_overlay_of_16_khz() -> None:
    words = [word for name in ("stages/row0_baseline", "scales/full", "worlds/published_16k")
             for word in ("--config", str(CONFIGS / f"{name}.yaml"))]  # fmt: skip
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["fit", *words, "--print_config"], standalone=False) == 0
    config = yaml.safe_load(out.getvalue())
    sizes = config["model"]["init_args"]["backbone"]["init_args"]
    assert (sizes["latent_dim"], sizes["latent_seq_len"], sizes["hidden_dim"]) == (20, 312, 448)
    callbacks = {c["class_path"].rpartition(".")[2]: c.get("init_args", {}) for c in config["trainer"]["callbacks"]}
    for name in ("RenderSlice", "CandidateWriter"):
        assert callbacks[name]["codec"]["init_args"]["mode"] == "16k"
    found = {need.name for need in needs(read_configs(words[1::2]))}
    assert {"v1-16.pth", "best_netG.pt"} <= found and not {"v1-44.pth", "bigvgan_v2_44khz_128band_512x"} & found
