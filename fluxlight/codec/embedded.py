"""The embedded codec: small, CPU-fast, frozen, shipped with the package."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from fluxlight.codec.base import Codec
from fluxlight.codec.network import CodecNetwork
from fluxlight.files import atomic_path, sha256

WEIGHTS = Path(__file__).resolve().parents[1] / "embedded" / "weights" / "codec.safetensors"
"""Where the shipped weights lie; ``fluxlight fit --config configs/embedded/codec.yaml`` makes them."""

VERSION = "codec-v1"


class EmbeddedCodec(Codec):
    """A mel autoencoder with a learned ISTFT decoder for 10 s clips of 44.1 kHz mono music.

    Trained on the embedded corpus only: on other music it is coarse. Latents have zero mean, unit variance and no
    correlation between channels over the training clips.

    Args:
        weights: a safetensors file made by :func:`export`; the shipped one by default.
        batch: clips that are processed at once, whatever the size of the given batch (bounds memory).
    """

    def __init__(self, weights: str | Path | None = None, batch: int = 4) -> None:
        super().__init__()
        path = Path(weights) if weights is not None else WEIGHTS
        network, metadata = load(path)
        self.network = network.eval().requires_grad_(False)
        self.facts: dict[str, object] = json.loads(metadata.get("facts", "{}"))
        self.identity = f"{metadata.get('version', VERSION)}-{sha256(path)[:8]}"
        self.batch = batch
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
        parts = [self.network.encode(part) for part in audio.split(self.batch) if len(part)]
        return torch.cat(parts) if parts else audio.new_zeros(0, self.latent_len, self.latent_dim), None

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Audio ``(B, 441000)`` of latents ``(B, L, D)``."""
        parts = [self.network.decode(part) for part in self.check_latent(latent).split(self.batch) if len(part)]
        return torch.cat(parts)[:, : self.clip_samples] if parts else latent.new_zeros(0, self.clip_samples)


def load(path: Path) -> tuple[CodecNetwork, dict[str, str]]:
    """Network and metadata of an exported file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(
            f"codec weights {path} are missing: reinstall, or train them with "
            "'fluxlight fit --config configs/embedded/codec.yaml'"
        )
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        network = CodecNetwork(**json.loads(metadata["settings"]))
        network.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is not a file of codec weights ({reason}): restore or retrain it") from None
    return network, metadata


def export(network: CodecNetwork, path: str | Path, facts: dict[str, object]) -> None:
    """Write a network atomically as fp16 safetensors; the small statistics stay fp32."""
    from safetensors.torch import save

    state = {}
    for name, value in network.state_dict().items():
        exact = name.rpartition(".")[2] in {"centre", "whiten", "colour", "mel_mean", "mel_scale"}
        state[name] = value.detach().cpu().to(torch.float32 if exact else torch.float16).contiguous()
    metadata = {"version": VERSION, "settings": json.dumps(network.settings), "facts": json.dumps(facts)}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(state, metadata))
