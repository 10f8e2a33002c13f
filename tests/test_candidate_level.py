"""Candidates are written at the loudness at which they are judged: none is clipped, whatever the codec gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from fluxlight.codec import EmbeddedCodec
from fluxlight.mining import load_audio
from fluxlight.postprocess import LockedLoudness
from fluxlight.postprocess.loudness import integrated_loudness
from fluxlight.render import Renderer

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.mark.parametrize("name", ["base", "worlds/published", "worlds/published_16k"])
def test_the_recipes_level_their_candidates(name: str) -> None:
    callbacks = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["trainer"]["callbacks"]
    (writer,) = [one for one in callbacks if one["class_path"] == "callbacks.CandidateWriter"]
    steps = [step["class_path"] for step in writer["init_args"]["postprocess"]]
    assert steps == ["fluxlight.postprocess.LockedLoudness"]


def test_a_clip_beyond_full_scale_is_written_whole_and_at_its_level(tmp_path: Path) -> None:
    codec = EmbeddedCodec()
    latents = 3 * torch.randn(2, codec.latent_len, codec.latent_dim, generator=torch.Generator().manual_seed(0))
    assert float(codec.decode(latents).abs().max()) > 1, "the clips of this test must reach beyond full scale"
    renderer = Renderer(codec, [LockedLoudness()])
    rendered = renderer.render(["a", "b"], ["x", "y"], latents)
    for row, one in zip(renderer.write(tmp_path, rendered, [1, 2], "c" * 16, {}), rendered, strict=True):
        audio, rate = load_audio(tmp_path, row)
        assert integrated_loudness(torch.from_numpy(audio), rate) == pytest.approx(-23.0, abs=0.01)
        # nothing was cut off: the file is the clip to the step of 16 bits
        assert float((torch.from_numpy(audio) - one.clip.audio).abs().max()) < 1e-4
