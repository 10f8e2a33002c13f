"""The published codec in miniature: narrow networks with random weights in the published files."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from fluxlight.codec.bigvgan import CONFIG_16K, CONFIG_44K, BigVGAN
from fluxlight.codec.mmaudio_vae import SIZES, MelVAE

NARROW = {"upsample_initial_channel": 64}
CHEAP = {
    "upsample_initial_channel": 16,
    "upsample_rates": [8, 8, 8],
    "upsample_kernel_sizes": [16, 16, 16],
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3]],
}
VOCODER = "bigvgan_v2_44khz_128band_512x"


def with_weight_norm(state: dict[str, torch.Tensor], names=("weight_g", "weight_v")) -> dict[str, torch.Tensor]:
    """The state dict as it is published: every convolution's weight as gain and direction."""
    out = {}
    for name, value in state.items():
        if name.endswith(".weight"):
            stem = name.removesuffix("weight")
            out[stem + names[0]] = value.flatten(1).norm(dim=1)[:, None, None]
            out[stem + names[1]] = 3.0 * value
        else:
            out[name] = value
    return out


def publish(folder: Path, mode: str = "44k", seed: int = 0) -> tuple[Path, Path]:
    """Narrow networks with random weights in the published files: the VAE's, and the vocoder's folder."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = MelVAE(**(SIZES[mode] | {"width": 8}))
        vae.data_mean.normal_(-5.0, 1.0)
        vae.data_std.uniform_(1.5, 2.5)
        config = CONFIG_44K | CHEAP if mode == "44k" else CONFIG_16K | CHEAP | {"upsample_rates": [8, 8, 4]}
        vocoder = BigVGAN(config)
    path, home = folder / f"v1-{mode.removesuffix('k')}.pth", folder / VOCODER
    home.mkdir(parents=True)
    torch.save(vae.state_dict(), path)
    torch.save({"generator": with_weight_norm(vocoder.state_dict())}, home / "bigvgan_generator.pt")
    (home / "config.json").write_text(json.dumps(config | {"sampling_rate": 44100, "fmax": None}))
    return path, home
