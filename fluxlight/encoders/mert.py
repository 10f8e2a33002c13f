"""MERT, the published audio encoder of the reward: MERT-v1-330M, one vector per clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fluxlight.encoders.listening import listen
from fluxlight.files import read_json
from fluxlight.weights.foreign import read_weights
from fluxlight.weights.frozen import tensor_digest
from fluxlight.weights.strict import check_finite, load_strict

NAME = "MERT-v1-330M"
RATE = 24000
CHUNK = 4  # clips per forward pass (our choice): 750 tokens of 10 s attend to each other
REMEDY = f"fetch {NAME} again, or give its folder as path"


class Mert(nn.Module):
    """Frozen MERT-v1-330M: the mean over time of its last hidden layer, 1024 wide, of mono audio at 24 kHz.

    The published folder brings code of its own (``trust_remote_code``), which is not run: with constant-Q input and
    DeepNorm off that code is transformers' Hubert, so the weights are loaded into `HubertModel` under the folder's
    config, strictly. (The remote code leaves the positional convolution at random values under current torch, because
    weight normalisation now stores ``weight_g`` and ``weight_v`` under other names.)

    Args:
        path: folder with ``config.json``, ``preprocessor_config.json`` and the weights; by default ``MERT-v1-330M``
            of the weights folder.

    Attributes:
        dim: width of an embedding.
        identity: name and hash of the weights.
    """

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        from fluxlight.weights import locate

        folder = locate(NAME, path)
        self._normalise = _normalises(folder)
        self.model, digest = _load(folder)
        self.dim = int(self.model.config.hidden_size)
        self.identity = f"{NAME}-{digest[:8]}"

    @torch.no_grad()
    def embed_audio(self, audio: Tensor | np.ndarray, sample_rate: int) -> Tensor:
        """Embeddings ``(B, 1024)`` of mono clips ``(B, N)`` or ``(N,)``; the centre 10 s of longer ones."""
        wave = listen(audio, sample_rate, RATE)
        if wave.shape[1] < RATE // 10:
            raise ValueError(f"audio is {wave.shape[1] / RATE:.3f} s: MERT needs at least 0.1 s")
        if self._normalise:
            # zero mean, unit variance of each clip, with the offset of Wav2Vec2FeatureExtractor
            wave = (wave - wave.mean(1, keepdim=True)) / (wave.var(1, correction=0, keepdim=True) + 1e-7).sqrt()
        out = [torch.zeros(0, self.dim, device=self.model.device)]
        self.model.eval()
        for start in range(0, len(wave), CHUNK):
            part = wave[start : start + CHUNK].to(self.model.device)
            out.append(self.model(part).last_hidden_state.mean(dim=1))
        said = torch.cat(out)
        if not bool(torch.isfinite(said).all()):
            raise ValueError(f"{self.identity} gave NaN or infinity: is the audio in [-1, 1]?")
        return said


def _normalises(folder: Path) -> bool:
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no preprocessor_config.json in {folder}: {REMEDY}")
    said = read_json(path)
    if said.get("sampling_rate") != RATE:
        raise ValueError(f"{path}: sampling_rate is {said.get('sampling_rate')}, {NAME} has {RATE}: {REMEDY}")
    if not isinstance(said.get("do_normalize"), bool):
        raise ValueError(f"{path} does not say do_normalize: {REMEDY}")
    return bool(said["do_normalize"])


def _load(folder: Path) -> tuple[Any, str]:
    from transformers import HubertConfig, HubertModel

    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no config.json in {folder}: {REMEDY}")
    said = read_json(path)
    if said.get("model_type") != "mert_model" or "do_stable_layer_norm" not in said:
        raise ValueError(f"{path} describes {said.get('model_type')!r}, not a mert_model: {REMEDY}")
    for key in ("feature_extractor_cqt", "deepnorm"):
        if said.get(key):
            raise ValueError(f"{path}: {key} is true, which Hubert does not compute: use {NAME}, where it is off")
    # "attention_relax" shifts logits before a softmax and changes nothing but the rounding
    known = set(HubertConfig().to_dict()) - {"model_type", "architectures", "transformers_version", "dtype"}
    with torch.random.fork_rng(devices=[]):
        model = HubertModel(HubertConfig(**{key: value for key, value in said.items() if key in known}))
    state = _read(folder)
    own = model.state_dict()
    # drawn for masked training, absent where the config masks nothing
    state = {key: value for key, value in state.items() if key != "masked_spec_embed" or key in own}
    check_finite(state, str(folder), REMEDY)
    load_strict(model, state, f"the weights in {folder}", REMEDY, may_miss=("masked_spec_embed",))
    return model.eval().requires_grad_(False), tensor_digest(state)


def _read(folder: Path) -> dict[str, Tensor]:
    """The state dict of the folder under the names of `HubertModel`."""
    safe, plain = folder / "model.safetensors", folder / "pytorch_model.bin"
    path = safe if safe.is_file() else plain
    if not path.is_file():
        raise FileNotFoundError(f"no model.safetensors or pytorch_model.bin in {folder}: {REMEDY}")
    state = read_weights(path, NAME, REMEDY)
    out = {}
    for key, value in state.items():
        # weight normalisation of torch >= 2.1 has other names
        key = key.replace("conv.weight_g", "conv.parametrizations.weight.original0")
        out[key.replace("conv.weight_v", "conv.parametrizations.weight.original1")] = value.float()
    return out
