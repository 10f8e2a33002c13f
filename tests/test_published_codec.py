"""The published codec: clips in and out, files with random weights, bad files and bad input."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch
from small_codec import CHEAP, NARROW, publish

from fluxlight.codec import MMAudioCodec
from fluxlight.codec.bigvgan import CONFIG_16K, CONFIG_44K, BigVGAN
from fluxlight.codec.mmaudio import LATENT_MEAN, LATENT_STD
from fluxlight.codec.mmaudio_vae import MelVAE


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    return publish(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def codec(files) -> MMAudioCodec:
    return MMAudioCodec(vae=files[0], vocoder=files[1])


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    noise = torch.randn(3, 430, 40, generator=torch.Generator().manual_seed(1))
    return noise * torch.tensor(LATENT_STD) + torch.tensor(LATENT_MEAN)


def test_ten_seconds_go_in_and_out(codec, latents):
    assert (codec.sample_rate, codec.latent_len, codec.latent_dim, codec.clip_samples) == (44100, 430, 40, 441000)
    audio = 0.1 * torch.randn(1, 441000, generator=torch.Generator().manual_seed(2))
    mean, std = codec.encode(audio)
    assert mean.shape == std.shape == (1, 430, 40) and bool((std > 0).all()) and float(mean.std()) > 0.1
    wave = codec.decode(latents[:1])
    assert wave.shape == (1, 441000) and not wave.requires_grad
    # 430 latents of 1,024 samples, then zeros
    assert bool((wave[:, 440320:] == 0).all()) and float(wave[:, 430000:440320].abs().max()) > 0
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(codec.decode(latents[:1]), wave)
        assert torch.equal(codec.encode(audio)[0], mean)


def test_blocks_and_batches_do_not_change_a_clip(files, codec, latents):
    one = MMAudioCodec(vae=files[0], vocoder=files[1], block=1)
    assert one.identity == codec.identity
    together, apart = codec.decode(latents), one.decode(latents)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)
    assert not torch.allclose(apart[0], apart[1], atol=1e-3)
    audio = together + 0.05 * torch.randn(3, 441000, generator=torch.Generator().manual_seed(3))
    for ours, theirs in zip(codec.encode(audio), one.encode(audio), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert codec.encode(audio[:0])[0].shape == (0, 430, 40) and codec.decode(latents[:0]).shape == (0, 441000)


def test_files_in_the_weights_folder_are_found_and_name_the_codec(files, tmp_path, monkeypatch, codec):
    monkeypatch.setenv("FLUXLIGHT_WEIGHTS", str(files[0].parent))
    assert MMAudioCodec().identity == codec.identity
    assert MMAudioCodec(vocoder=files[1] / "bigvgan_generator.pt").identity == codec.identity
    assert re.fullmatch(r"mmaudio-44k-[0-9a-f]{8}-[0-9a-f]{8}", codec.identity)
    other, _ = publish(tmp_path, seed=1)
    changed = MMAudioCodec(vae=other).identity
    assert changed != codec.identity and changed[-8:] == codec.identity[-8:]
    monkeypatch.setenv("FLUXLIGHT_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"v1-44\.pth"):
        MMAudioCodec()


def test_the_16_khz_world_has_its_own_sizes(tmp_path):
    path, home = publish(tmp_path, "16k")
    codec = MMAudioCodec("16k", path, home)
    mean, _ = codec.encode(torch.zeros(1, 160000))
    assert mean.shape == (1, 312, 20)
    wave = codec.decode(mean)
    assert wave.shape == (1, 160000) and bool((wave[:, 159744:] == 0).all()) and bool((wave[:, :159744] != 0).any())
    with pytest.raises(ValueError, match="n_mels 80, the 44k codec 128"):
        MMAudioCodec("44k", path, home)
    with torch.device("meta"):
        assert "conv_post.bias" in BigVGAN(CONFIG_16K).state_dict() and BigVGAN(CONFIG_16K).hop == 256


def test_short_and_silent_clips_are_padded_and_encoded(codec):
    short = 0.1 * torch.randn(1, 1000, generator=torch.Generator().manual_seed(4))
    padded = torch.nn.functional.pad(short, (0, 440000))
    assert torch.equal(codec.encode(short)[0], codec.encode(padded)[0])
    mean, std = codec.encode(torch.zeros(1, 441000))
    assert bool(torch.isfinite(mean).all() and torch.isfinite(std).all())


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (torch.zeros(1, 0), "no samples"),
        (torch.zeros(441000), "give .batch, samples."),
        (torch.full((1, 441000), float("nan")), "NaN or infinite"),
    ],
)
def test_bad_audio_is_one_line(codec, audio, message):
    with pytest.raises(ValueError, match=message) as caught:
        codec.encode(audio)
    assert "\n" not in str(caught.value)


def test_bad_latents_are_one_line(codec, latents):
    for bad in (latents[:, :312], latents[..., :20], latents[0], latents * float("inf")):
        with pytest.raises(ValueError, match="latent ha|holds NaN") as caught:
            codec.decode(bad)
        assert "\n" not in str(caught.value)


def spoil(path: Path, change) -> None:
    state = torch.load(path, weights_only=True)
    torch.save(change(state), path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def with_nan(state: dict) -> dict:
    inner = state.get("generator", state)
    next(value for name, value in inner.items() if name.endswith(("conv_in.weight", "conv_pre.bias")))[0] = float("nan")
    return state


def without_last(state: dict) -> dict:
    inner = state.get("generator", state)
    inner.pop(list(inner)[-1])
    return state


class Trap:
    """Pickled code that would make a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


BAD_FILES = {
    "vae cut short": (0, cut, "cut short"),
    "vae foreign": (0, lambda p: spoil(p, lambda s: {"net.0.weight": torch.zeros(2, 2)}), "holds no MMAudio VAE"),
    "vae not a dict": (0, lambda p: spoil(p, lambda s: [1, 2]), "so it is no MMAudio VAE"),
    "vae incomplete": (0, lambda p: spoil(p, without_last), "lacks decoder"),
    "vae other latent": (0, lambda p: torch.save(MelVAE(128, 20, 8).state_dict(), p), "latent_dim 20"),
    "vae with NaN": (0, lambda p: spoil(p, with_nan), "non-finite values in encoder.conv_in.weight"),
    "vae is code": (0, lambda p: torch.save({"x": Trap(p.parent / "trapped")}, p), "cannot be read"),
    "vocoder cut short": (1, cut, "cut short"),
    "vocoder foreign": (1, lambda p: spoil(p, lambda s: {"x": s["generator"]}), "holds no state dict of tensors"),
    "vocoder incomplete": (1, lambda p: spoil(p, without_last), "conv_post.weight_v has no gain|lacks conv_post"),
    "vocoder with NaN": (1, lambda p: spoil(p, with_nan), "non-finite values in conv_pre"),
    "vocoder absent": (1, Path.unlink, "bigvgan_generator.pt"),
    "config absent": (2, Path.unlink, "no config.json"),
    "config broken": (2, lambda p: p.write_text('{"num_mels": '), "not valid JSON"),
    "config is text": (2, lambda p: p.write_text("{"), "it is plain text"),
    "config empty": (2, lambda p: p.write_text("{}"), "lacks num_mels"),
    "config of another vocoder": (2, lambda p: p.write_text(json.dumps(CONFIG_16K)), "takes 80 mels at a hop of 256"),
    "config of other depth": (2, lambda p: p.write_text(json.dumps(CONFIG_44K)), "generator.pt lacks ups.3.0"),
    "config of other width": (
        2,
        lambda p: p.write_text(json.dumps(CONFIG_44K | CHEAP | NARROW)),
        "has other shapes: conv_pre",
    ),
    "config with snake": (2, lambda p: p.write_text(json.dumps(CONFIG_44K | {"activation": "snake"})), "snakebeta"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_one_line(tmp_path, case):
    which, damage, message = BAD_FILES[case]
    vae, home = publish(tmp_path)
    damage((vae, home / "bigvgan_generator.pt", home / "config.json")[which])
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        MMAudioCodec(vae=vae, vocoder=home)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "trapped").exists()


def test_bad_settings_are_one_line(files):
    with pytest.raises(ValueError, match="mode '48k'"):
        MMAudioCodec("48k", *files)
    with pytest.raises(ValueError, match="block is 0"):
        MMAudioCodec(vae=files[0], vocoder=files[1], block=0)
