"""What a text encoder and a joint text-audio model (CLAP) are: the two interfaces, and how a CLAP is kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fluxlight.clips.resample import centre, resample
from fluxlight.encoders.front_end import FrontEnd
from fluxlight.weights.frozen import own_state, read_frozen, write_frozen

CHUNK = 16  # clips per forward pass: bounds the memory of a long list (our choice)


class TextEncoder(nn.Module):
    """Text -> token features.

    Attributes:
        dim: width of a token feature.
        length: tokens of a padded text; longer texts are cut.
        identity: name and version, stored beside everything computed from it.
    """

    dim: int
    length: int = 77
    identity: str

    def encode_ragged(self, texts: Sequence[str]) -> list[Tensor]:
        """Token features of each text, ``(n_i, dim)`` float32 with ``1 <= n_i <= length``."""
        raise NotImplementedError

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Token features ``(B, length, dim)``, rows past the end of a text zero."""
        out = torch.zeros(len(texts), self.length, self.dim)
        for row, feature in zip(out, self.encode_ragged(texts), strict=True):
            row[: len(feature)] = feature
        return out


class TextAudioModel(nn.Module):
    """A joint embedding of text and audio (CLAP): both sides land on one unit sphere.

    Subclasses fill ``front_end``, ``audio_tower``, ``text_features`` and ``text_tower``; this class has the
    conversions and the file format. Levels are no cue: ``front_end`` brings each clip to one RMS first.

    Attributes:
        name: short name, e.g. ``clap-a``.
        version: counts judges, not trainings: a judge with other weights that replaces this one gets the next number.
        dim: width of an embedding.
        identity: ``<name>-v<version>-<8 hex digits of the weights>``; ``...-untrained`` before training.
        facts: what the file's header says about its training.
    """

    name: str
    version: int = 1
    dim: int = 128
    front_end: FrontEnd

    def __init__(self) -> None:
        super().__init__()
        self.identity = f"{self.name}-v{self.version}-untrained"
        self.facts: dict[str, object] = {}

    def text_features(self, texts: Sequence[str]) -> list[Tensor]:
        """Frozen features of each text, ``(n_i, E)``: computed once per text, before any training."""
        raise NotImplementedError

    def text_tower(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Padded text features ``(B, T, E)`` and their lengths ``(B,)`` -> ``(B, dim)``, not normalised."""
        raise NotImplementedError

    def audio_tower(self, features: Tensor) -> Tensor:
        """Front-end features ``(B, bands, frames)`` -> ``(B, dim)``, not normalised."""
        raise NotImplementedError

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings ``(B, dim)`` of texts."""
        if isinstance(texts, str):
            raise ValueError("texts is one string: pass a list of strings")
        training, device = self.training, self.front_end.mean.device
        self.eval()
        out = [torch.zeros(0, self.dim, device=device)]
        for start in range(0, len(texts), 8 * CHUNK):
            features, lengths = pad(self.text_features(texts[start : start + 8 * CHUNK]))
            out.append(functional.normalize(self.text_tower(features.to(device), lengths.to(device)), dim=-1))
        self.train(training)
        return torch.cat(out)

    @torch.no_grad()
    def embed_audio(self, audio: Tensor | np.ndarray, sample_rate: int) -> Tensor:
        """Unit embeddings ``(B, dim)`` of mono clips.

        Args:
            audio: samples ``(B, N)`` or ``(N,)`` float; more than 10 s keep their centre 10 s (no random crop).
            sample_rate: Hz; other rates than 44,100 are resampled with soxr.
        """
        audio = torch.as_tensor(audio, dtype=torch.float32)
        audio = audio[None] if audio.ndim == 1 else audio
        if audio.ndim != 2 or audio.shape[1] == 0:
            raise ValueError(f"audio has shape {tuple(audio.shape)}: pass mono samples (B, N)")
        if not bool(torch.isfinite(audio).all()):
            raise ValueError("audio holds NaN or infinity: drop these clips first")
        training, device = self.training, self.front_end.mean.device
        self.eval()
        out = [torch.zeros(0, self.dim, device=device)]
        for start in range(0, len(audio), CHUNK):
            clips = centre(resample(audio[start : start + CHUNK], sample_rate)).to(device)
            out.append(functional.normalize(self.audio_tower(self.front_end(clips)), dim=-1))
        self.train(training)
        return torch.cat(out)

    def save(self, path: str | Path, facts: dict[str, object] | None = None) -> str:
        """Write the weights (fp16 safetensors, header with version, training facts and digest); the new identity."""
        tensors = {key: value.to(torch.float16) for key, value in own_state(self.state_dict()).items()}
        self.identity = write_frozen(path, tensors, self.name, self.version, facts or {})
        self.facts = dict(facts or {})
        return self.identity

    def load(self, path: str | Path) -> None:
        """Load weights written by `save` and freeze them; a wrong or damaged file is one clear error."""
        frozen = read_frozen(path, self.name, own_state(self.state_dict()))
        self.load_state_dict(frozen.tensors, strict=False)
        self.eval().requires_grad_(False)
        self.identity, self.facts = frozen.identity, frozen.facts


def pad(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Ragged features ``[(n_i, E)]`` -> zero-padded ``(B, max n_i, E)`` and lengths ``(B,)``."""
    lengths = torch.tensor([len(feature) for feature in features])
    return nn.utils.rnn.pad_sequence(list(features), batch_first=True), lengths
