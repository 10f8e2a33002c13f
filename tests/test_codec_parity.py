"""The parts of the published codec are the published ones: golden vectors, names and shapes, statistics."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_codec import NARROW, with_weight_norm

from fluxlight.codec.bigvgan import CONFIG_44K, BigVGAN, fold_weight_norm, low_pass
from fluxlight.codec.mel_published import PublishedMel
from fluxlight.codec.mmaudio import LATENT_MEAN, LATENT_STD
from fluxlight.codec.mmaudio_vae import SIZES, MelVAE


def part(vectors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("sd."): value for name, value in vectors.items() if name.startswith("sd.")}


def listed(path: Path) -> dict[str, tuple[int, ...]]:
    rows = [line.split("\t") for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {name: tuple(json.loads(shape)) for name, shape in rows}


@pytest.mark.parametrize("mode", ["16k", "44k"])
def test_mel_front_ends_are_the_published_ones(golden, mode):
    vectors = load_file(golden / "mel_golden.safetensors")
    mel = PublishedMel(mode).mel(vectors[f"in.wave_{mode}"])
    torch.testing.assert_close(mel, vectors[f"out.mel_{mode}"], atol=1e-4, rtol=0)


def test_vae_is_the_published_one_raw_and_folded(golden):
    vectors = load_file(golden / "vae_golden.safetensors")
    state = part(vectors)
    vae = MelVAE(**MelVAE.sizes_of(state))
    assert (vae.n_mels, vae.latent_dim, vae.width) == (128, 8, 24)
    vae.load_state_dict(state, strict=True)
    close = {"atol": 2e-4, "rtol": 0}
    for _ in ("raw", "folded", "folded twice"):
        with torch.no_grad():
            mean, std = vae.encode(vectors["in.mel"])
            torch.testing.assert_close(mean, vectors["out.mean"], **close)
            torch.testing.assert_close(std, vectors["out.std"], **close)
            torch.testing.assert_close(vae.decode(vectors["out.mean"]), vectors["out.decode_of_mean"], **close)
            torch.testing.assert_close(vae.decode(vectors["in.z"]), vectors["out.decode_of_z"], **close)
        vae.fold()


def test_vocoder_is_the_published_one_under_both_spellings_of_weight_norm(golden):
    vectors = load_file(golden / "bigvgan_golden.safetensors")
    state = part(vectors)
    filters = [value for name, value in state.items() if name.endswith("filter")]
    assert filters and all(torch.allclose(low_pass(), value, atol=1e-7) for value in filters)
    new = {
        name.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): value
        for name, value in state.items()
    }
    assert not state.keys() >= new.keys()
    for spelled in (state, new):
        vocoder = BigVGAN(CONFIG_44K | NARROW)
        vocoder.load_state_dict(fold_weight_norm(spelled), strict=True)
        with torch.no_grad():
            wave = vocoder(vectors["in.mel"])
        torch.testing.assert_close(wave, vectors["out.wave"][:, 0], atol=2e-4, rtol=0)


@pytest.mark.parametrize("mode", ["16k", "44k"])
def test_vae_has_the_published_names_and_shapes(golden, mode):
    with torch.device("meta"):
        state = MelVAE(**SIZES[mode]).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == listed(golden / f"vae_{mode}_keys.txt")


def test_vocoder_has_the_published_names_and_shapes(golden):
    published = listed(golden / "bigvgan_v2_44k_keys.txt")
    with torch.device("meta"):
        ours = BigVGAN(CONFIG_44K).state_dict()
        folded = fold_weight_norm({name: torch.empty(shape) for name, shape in published.items()})
    assert {name: value.shape for name, value in ours.items()} == {k: v.shape for k, v in folded.items()}
    assert {name: tuple(value.shape) for name, value in with_weight_norm(ours).items()} == published


def test_latent_statistics_are_the_published_ones(shared):
    text = (shared / "FACTS.md").read_text()
    for name, ours in (("mean", LATENT_MEAN), ("std", LATENT_STD)):
        line = re.search(rf"44k latent {name}: (.*)", text)
        assert line and tuple(float(value) for value in line[1].split()) == ours and len(ours) == 40
