"""The embedded codec: small, CPU-fast, frozen, shipped with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fluxlight.codec.base import Codec
from fluxlight.codec.network import CodecNetwork
from fluxlight.files import atomic_path, sha256

WEIGHTS = Path(__file__).resolve().parents[1] / "embedded" / "weights" / "codec.safetensors"
"""Where the shipped weights lie; ``fluxlight fit --config configs/embedded/codec.yaml`` makes them."""

VERSION = "codec-v1"
TOGETHER = 8
"""Clips decoded at once (our choice: magnitudes, steps and phases of each take 18 MB)."""


class EmbeddedCodec(Codec):
    """A mel autoencoder with a learned ISTFT decoder for 10 s clips of 44.1 kHz mono music.

    Trained on the embedded corpus only: on other music it is coarse. Latents have zero mean, unit variance and no
    correlation between channels over the training clips. Clips go one by one, so that a clip's result is the same to
    the last bit whatever batch it came in (a batch would be hardly faster on a CPU).

    Args:
        weights: a safetensors file made by :func:`export`; the shipped one by default.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        super().__init__()
        path = Path(weights) if weights is not None else WEIGHTS
        network, about = load(path)
        self.network = network.eval().requires_grad_(False)
        self.facts: dict[str, Any] = about["facts"]
        self.identity = f"{about['version']}-{sha256(path)[:8]}"
        self.sample_rate = network.spectrum.sample_rate
        self.clip_samples = 10 * self.sample_rate
        self.latent_dim = network.autoencoder.latent_dim
        step = network.spectrum.hop * network.autoencoder.patch
        self.latent_len = -(-self.clip_samples // step)
        self.padded = self.latent_len * step

    @torch.no_grad()
    def encode(self, audio: Tensor) -> tuple[Tensor, None]:
        """Latents ``(B, L, D)`` of audio ``(B, n)``, padded or cut to 10 s; the encoder has no spread (None)."""
        audio = self.fit_length(audio).float()
        audio = torch.nn.functional.pad(audio, (0, self.padded - self.clip_samples))
        parts = [self.network.encode(clip[None]) for clip in audio]
        return torch.cat(parts) if parts else audio.new_zeros(0, self.latent_len, self.latent_dim), None

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Audio ``(B, 441000)`` of latents ``(B, L, D)``."""
        parts = [self.network.decode_each(some) for some in self.check_latent(latent).split(TOGETHER)]
        return torch.cat(parts)[:, : self.clip_samples] if parts else latent.new_zeros(0, self.clip_samples)


def load(path: Path) -> tuple[CodecNetwork, dict[str, Any]]:
    """Network of an exported file and what is said about it: ``version``, ``settings``, ``facts`` of its training."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(
            f"codec weights {path} are missing: reinstall, or train them with "
            "'fluxlight fit --config configs/embedded/codec.yaml'"
        )
    try:
        with safe_open(str(path), "pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})["codec"])
            state = {name: file.get_tensor(name).float() for name in file.keys()}
        network = CodecNetwork(**about["settings"])
        network.load_state_dict(state)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is not a file of codec weights ({reason}): restore or retrain it") from None
    return network, about


def export(network: CodecNetwork, path: str | Path, facts: dict[str, object]) -> None:
    """Write a network atomically as fp16 safetensors; the small statistics stay fp32."""
    from safetensors.torch import save

    state = {}
    for name, value in network.state_dict().items():
        exact = name.rpartition(".")[2] in {"centre", "whiten", "colour", "mel_mean", "mel_scale"}
        state[name] = value.detach().cpu().to(torch.float32 if exact else torch.float16).contiguous()
    # one entry: with several, their order in the file, and so the file's hash, would differ from run to run
    about = json.dumps({"version": VERSION, "settings": network.settings, "facts": facts}, sort_keys=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(state, {"codec": about}))
