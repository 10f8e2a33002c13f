"""Generating from a model folder: the command in the embedded world, and folders that nobody need trust."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from small_world import wake

from fluxlight import cli
from fluxlight.backbone import FluxAudio
from fluxlight.bundle import load_bundle, read_recipe, save_bundle
from fluxlight.files import read_jsonl
from fluxlight.generate import Generator, read_pipeline
from fluxlight.heads import GlobalAdaLN  # type: ignore[attr-defined]
from fluxlight.model import FluxModel


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the bundle of a model of debug size in the embedded world."""
    run = tmp_path_factory.mktemp("embedded")
    torch.manual_seed(0)
    sizes = {"hidden_dim": 32, "depth": 2, "fused_depth": 1, "num_heads": 2, "ffn_multiple": 16}
    model = FluxModel(FluxAudio(64, 384, 128, latent_seq_len=72, text_seq_len=77, **sizes), GlobalAdaLN)
    wake(model, 0.05)
    save_bundle(run / "bundle", model, {"stage": "CRPO", "identities": {"text": "all-MiniLM-L6-v2"}})
    return run


def test_every_mode_of_sampling_is_on_the_command_line(embedded: Path, tmp_path: Path) -> None:
    words = ["generate", "a calm piano piece", "--model", str(embedded), "--out", str(tmp_path), "--raw"]
    words += ["--steps", "2", "--method", "heun", "--schedule", "interval", "--interval", "0.2", "0.9", "--at", "0.4"]
    words += ["--score-weight", "2", "--negative", "hum", "--prefix", "", "--suffix", ", live", "--combine", "reverse"]
    assert cli.main([*words, "--second", str(embedded / "bundle")]) == 0
    settings = read_jsonl(tmp_path / "manifest.jsonl")[0]["settings"]
    second = settings["sampler"].pop("second")
    assert settings["sampler"] == {
        "steps": 2, "method": "heun", "cfg_weight": 4.0, "score": 5.0, "score_weight": 2.0, "schedule": "interval",
        "interval": [0.2, 0.9], "negative": "stored",
    }  # fmt: skip
    assert (second["combine"], second["at"], len(second["hash"])) == ("reverse", 0.4, 16)
    assert (settings["prefix"], settings["suffix"], settings["negative"]) == ("", ", live", "hum")
    with pytest.raises(ValueError, match="name it with --second"):
        cli.main(words, standalone=False)


def test_the_command_needs_no_lightning(embedded: Path, tmp_path: Path) -> None:
    """The whole embedded world in a process of its own: codec, encoders, reward, loudness."""
    words = ["generate", "a calm piano piece", "word " * 200, "--model", str(embedded), "--steps", "2"]
    words += ["--best-of", "2", "--score", "1.5", "--out", str(tmp_path)]
    code = (
        "import sys\nfrom fluxlight.cli import main\n"
        f"assert main({words!r}) == 0\n"
        "found = {'lightning', 'pytorch_lightning', 'wandb', 'demucs', 'laion_clap'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-W", "error::DeprecationWarning:fluxlight", "-c", code],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-800:]
    assert "2 clips ->" in done.stdout and done.stderr.count("longer than 77 tokens") == 1
    assert "published settings are used" in done.stderr and "Warning" not in done.stderr
    audio, rate = soundfile.read(tmp_path / "a-calm-piano-piece.wav")
    assert audio.shape == (441_000,) and rate == 44_100 and 0.1 < np.abs(audio).max() <= 0.99
    row = read_jsonl(tmp_path / "manifest.jsonl")[0]
    assert row["settings"]["reward"].startswith("reward-a") and len(row["scores"]) == 2
    assert row["checkpoint"] == read_recipe(embedded / "bundle")["hash"]["raw"]
    assert row["settings"]["sampler"]["score"] == 1.5 and any(note.startswith("loudness") for note in row["notes"])


def test_a_part_that_is_not_the_one_of_the_training_is_refused(embedded: Path, tmp_path: Path) -> None:
    model = load_bundle(embedded / "bundle")
    save_bundle(tmp_path, model, {"identities": {"codec": "codec-v0-00000000"}})
    with warnings.catch_warnings(), pytest.raises(ValueError, match="made with codec-v0-00000000, fluxlight.codec"):
        warnings.simplefilter("ignore")
        Generator.from_folder(tmp_path)


def folder_with(tmp_path: Path, change: dict[str, Any], embedded: Path) -> Path:
    """A model folder whose model.yaml says something else than its exporter wrote."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = read_pipeline(embedded).plain()
    out = save_bundle(tmp_path / "evil", load_bundle(embedded / "bundle"), {"pipeline": pipeline})
    recipe = yaml.safe_load((out / "model.yaml").read_text())
    for key, value in change.items():
        place = recipe
        *path, last = key.split(".")
        for part in path:
            place = place[part]
        place[last] = value
    (out / "model.yaml").write_text(yaml.safe_dump(recipe))
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone.class_path": "trap.Trap"}, "not part of fluxlight"),
        ({"head": {"class_path": "trap.Trap"}}, "not part of fluxlight"),
        ({"info.pipeline.codec": {"class_path": "trap.Trap"}}, "not part of fluxlight"),
        ({"info.pipeline.reward": {"class_path": "trap.Trap"}}, "not part of fluxlight"),
        ({"info.pipeline.postprocess": ["trap.Trap"]}, "not part of fluxlight"),
        ({"info.pipeline.codec": "fluxlight.encoders.ClapA"}, "is not a Codec"),
        ({"info.pipeline.codec": "fluxlight.files.os.system"}, "cannot be imported"),
        ({"info.pipeline.postprocess": ["fluxlight.files.Path"]}, "is not a"),
        (
            {"info.pipeline.postprocess": [{"class_path": "fluxlight.cli.training.FluxCLI",
                                            "init_args": {"args": ["fit"]}}]},
            "is not a",
        ),
        (
            {"info.pipeline.postprocess": [{"class_path": "fluxlight.postprocess.Separate",
                                            "init_args": {"folder": "demucs"}}]},
            "may name no place",
        ),
        (
            {"info.pipeline.postprocess": [{"class_path": "fluxlight.postprocess.Separate",
                                            "init_args": {"model": "../evil/mdx"}}]},
            "may name no place",
        ),
        ({"info.pipeline.codec": {"class_path": "fluxlight.codec.EmbeddedCodec", "init_args": {"weights": "x"}}},
         "may name no place"),
        ({"info.pipeline.sampler": {"second": {"bundle": "evil"}}}, "another checkpoint"),
        ({"info.pipeline.sampler": {"steps": "many"}}, "sampler.steps is 'many'"),
        ({"info.pipeline.sampler": {"stepps": 3}}, "does not fit"),
        ({"info.pipeline.sampler": {"method": "rk4"}}, "use euler, heun"),
        ({"info.pipeline": {"codec": "fluxlight.codec.EmbeddedCodec"}}, "lacks clap, text"),
        ({"info.pipeline": 3}, "unknown int"),
    ],
)  # fmt: skip
def test_a_folder_of_a_stranger_runs_no_code_of_his(
    change: dict[str, Any], message: str, embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trap.py").write_text("from pathlib import Path\nPath(__file__).with_name('sprung').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    folder = folder_with(tmp_path, change, embedded)
    with pytest.raises(ValueError, match=message) as error:
        Generator.from_folder(folder)
    assert "\n" not in str(error.value) and not (tmp_path / "sprung").exists()


def test_a_line_for_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["x", "--model", str(tmp_path / "none")], "does not exist: give what"),
        (["x", "--model", str(tmp_path)], "holds no model.yaml"),
        (["--model", str(tmp_path)], "give prompts"),
        (["x", "--prompts", "y", "--model", str(tmp_path)], "give prompts"),
        (["--prompts", str(tmp_path / "none.txt"), "--model", str(tmp_path)], "does not exist"),
        (["x", "--model", str(tmp_path), "--device", "tpu9"], "--device tpu9 cannot be used"),
    ):
        assert cli.main(["generate", *words]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1, said
