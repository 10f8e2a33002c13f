"""The published codec: MMAudio's VAE and a BigVGAN vocoder around a log-mel (FACTS section 8).

No weights are shipped (MMAudio's are CC-BY-NC). Ten seconds at 44.1 kHz are 861 frames of 512 samples, of which the
VAE's step of two leaves 430 latents; they decode to 440,320 samples, padded with zeros to 441,000.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fluxlight.codec.base import Codec
from fluxlight.codec.bigvgan import CONFIG_16K, CONFIG_44K, BigVGAN, fold_weight_norm
from fluxlight.codec.mel_published import PublishedMel
from fluxlight.codec.mmaudio_vae import SIZES, MelVAE
from fluxlight.files import read_json, sha256
from fluxlight.weights.foreign import read_weights
from fluxlight.weights.strict import check_finite, load_strict

VAE_FILES = {"16k": "v1-16.pth", "44k": "v1-44.pth"}
VOCODER_FILES = {"16k": "best_netG.pt", "44k": "bigvgan_v2_44khz_128band_512x"}
"""Published names by world: the 16 kHz vocoder is one file, the other a folder with its config.json."""

GENERATOR = "bigvgan_generator.pt"

LATENT_MEAN = (
    -0.3096, -0.7969, 0.2739, -0.4061, 0.0421, -0.6352, 0.1598, 0.3106, 0.1448, -0.2591,
    0.1879, -0.1785, -1.6637, 0.5764, 0.7697, -1.8701, 0.8956, 0.6206, -0.2867, -0.5435,
    -0.7082, -0.3219, 1.0831, -0.4157, -0.1996, 0.2804, 0.6419, -0.1033, 0.4806, -0.1010,
    -1.0169, 0.4472, 1.4250, -1.0725, 0.2336, -0.1558, -0.0917, 0.1956, -0.9306, -0.5406,
)  # fmt: skip
"""Mean of each channel of the 44.1 kHz latents over the published training data (FACTS section 8)."""

LATENT_STD = (
    1.9827, 2.2155, 1.6536, 1.4807, 1.9138, 1.9566, 1.6035, 1.7187, 1.5227, 2.9507,
    1.5026, 1.7052, 1.9886, 1.5996, 1.4901, 2.2989, 2.1681, 2.2079, 1.4611, 1.5768,
    1.8727, 1.7003, 2.0227, 1.8489, 1.9805, 1.7575, 1.9966, 1.5225, 1.5179, 1.5947,
    1.8295, 1.5291, 2.3637, 1.7441, 1.7384, 1.4534, 1.5399, 1.6732, 1.8244, 1.9626,
)  # fmt: skip
"""Their standard deviation. Stores of 44.1 kHz latents are normalised by both, as the published networks are."""


class MMAudioCodec(Codec):
    """Ten-second mono clips <-> latents ``(B, 430, 40)`` at 44.1 kHz, or ``(B, 312, 20)`` at 16 kHz.

    Inputs go to where the weights are; results stay there. Silence is a clip like any other here: the published
    data loader, not the codec, refuses it.

    Args:
        mode: "44k" (the system's world) or "16k".
        vae: file of the VAE; by default ``v1-44.pth`` or ``v1-16.pth`` in the weights folder.
        vocoder: folder (or the ``.pt`` in it) of the vocoder; by default ``bigvgan_v2_44khz_128band_512x``, or
            ``best_netG.pt`` at 16 kHz, in the weights folder.
        block: clips that are worked on at once: bounds the memory, about 1.4 GB a clip at full size.
    """

    def __init__(
        self, mode: str = "44k", vae: str | Path | None = None, vocoder: str | Path | None = None, block: int = 2
    ) -> None:
        from fluxlight.weights import locate

        super().__init__()
        if block < 1:
            raise ValueError(f"block is {block}: give 1 clip or more")
        self.mel = PublishedMel(mode)
        vae_path = locate(VAE_FILES[mode], vae)
        vocoder_path, config = _vocoder_files(mode, locate(VOCODER_FILES[mode], vocoder))
        self.vae = _load_vae(mode, vae_path)
        self.vocoder = _load_vocoder(vocoder_path, config, self.mel)
        self.eval().requires_grad_(False)
        self.block = block
        self.identity = f"mmaudio-{mode}-{sha256(vae_path)[:8]}-{sha256(vocoder_path)[:8]}"
        self.sample_rate = self.mel.sample_rate
        if mode == "44k":
            self.statistics = torch.tensor(LATENT_MEAN), torch.tensor(LATENT_STD)
        self.clip_samples = 10 * self.sample_rate
        self.latent_dim = self.vae.latent_dim
        self.latent_len = self.clip_samples // (2 * self.mel.hop)

    @torch.no_grad()
    def encode(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each ``(B, L, D)``, of audio ``(B, n)``, padded or cut to 10 s."""
        if audio.ndim == 2 and not audio.shape[1]:
            raise ValueError("audio has no samples: drop the clip")
        audio = self.fit_length(audio).float()
        device = self.vae.data_mean.device
        mean = torch.empty(len(audio), self.latent_len, self.latent_dim, device=device)
        std = torch.empty_like(mean)
        with torch.autocast(device.type, enabled=False):
            for start in range(0, len(audio), self.block):
                rows = slice(start, start + self.block)
                parts = self.vae.encode(self.mel.mel(audio[rows].to(device)))
                mean[rows], std[rows] = (part.transpose(1, 2) for part in parts)
        return mean, std

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Audio ``(B, 10 s)`` of latents ``(B, L, D)`` in the VAE's units; what the frames do not reach is zero."""
        latent = self.check_latent(latent)
        device = self.vae.data_mean.device
        audio = torch.zeros(len(latent), self.clip_samples, device=device)
        with torch.autocast(device.type, enabled=False):
            for start in range(0, len(latent), self.block):
                rows = slice(start, start + self.block)
                wave = self.vocoder(self.vae.decode(latent[rows].to(device).transpose(1, 2)))
                audio[rows, : wave.shape[1]] = wave
        return audio


def _filled(network: nn.Module, state: dict[str, Tensor], path: Path, what: str) -> None:
    """Give a network made on the meta device, so without drawing weights only to drop them, those of a file."""
    check_finite(state, f"{what} {path}", "fetch it again")
    network.to_empty(device="cpu")
    load_strict(network, state, f"{what} {path}", f"give the published {what}")


def _load_vae(mode: str, path: Path) -> MelVAE:
    what = f"MMAudio VAE ({VAE_FILES[mode]})"
    state = read_weights(path, what, "fetch it again")
    sizes = MelVAE.sizes_of(state)
    if not sizes:
        raise ValueError(f"{path} holds no MMAudio VAE (no encoder.conv_in.weight): give the published {what}")
    for name in ("n_mels", "latent_dim"):
        if sizes[name] != SIZES[mode][name]:
            raise ValueError(
                f"{path} has {name} {sizes[name]}, the {mode} codec {SIZES[mode][name]}: give {VAE_FILES[mode]}, "
                "or the mode the file is of"
            )
    with torch.device("meta"):
        vae = MelVAE(**sizes)
    _filled(vae, state, path, what)
    vae.fold()
    return vae


def _vocoder_files(mode: str, path: Path) -> tuple[Path, dict[str, Any]]:
    """The generator's file and its settings: a folder has its own, a lone file the published ones of its world."""
    folder = path.parent if path.name == GENERATOR else path
    if path.is_file() and folder == path:
        return path, CONFIG_44K if mode == "44k" else CONFIG_16K
    config = folder / "config.json"
    if not config.is_file():
        raise FileNotFoundError(f"{folder} has no config.json: fetch the whole folder {VOCODER_FILES['44k']}")
    return folder / GENERATOR, read_json(config)


def _load_vocoder(path: Path, config: dict[str, Any], mel: PublishedMel) -> BigVGAN:
    what = "BigVGAN generator"
    state = read_weights(path, what, "fetch it again", ("generator",))
    with torch.device("meta"):
        vocoder = BigVGAN(config)
    if (vocoder.n_mels, vocoder.hop) != (mel.n_mels, mel.hop):
        raise ValueError(
            f"{path} takes {vocoder.n_mels} mels at a hop of {vocoder.hop}, this world has {mel.n_mels} at {mel.hop}: "
            "give the vocoder of the codec's mode"
        )
    _filled(vocoder, fold_weight_norm(state), path, what)
    return vocoder
