"""LAION-CLAP: the published joint model of text and audio that conditions FluxAudio, judges it and feeds TuneJury."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fluxlight.encoders.base import TextAudioModel
from fluxlight.encoders.clap_keys import REMEDY, Sizes, read_laion, sizes, to_transformers
from fluxlight.encoders.listening import listen
from fluxlight.encoders.pretrained import Tokenizer
from fluxlight.weights.frozen import tensor_digest
from fluxlight.weights.strict import load_strict

MUSIC = "music_audioset_epoch_15_esc_90.14.pt"
"""The checkpoint that judges and that TuneJury was trained on (FACTS sections 5 and 9)."""

SPEECH = "music_speech_audioset_epoch_15_esc_89.98.pt"
"""The checkpoint whose text embedding conditions the published FluxAudio."""

RATE, WINDOW = 48000, 480000
CHUNK = 8  # windows per forward pass (our choice)


class LaionClap(TextAudioModel):
    """LAION-CLAP with an HTSAT audio branch, no fusion: text and 10 s of audio to unit vectors of 512.

    Audio over 10 s keeps its centre (the package crops at random); shorter audio is repeated as often as it fits and
    padded with zeros, as the package does. `embed_windows` is the challenge's way, a window every second.

    Args:
        checkpoint: which published checkpoint this is.
        path: where it lies; by default in the weights folder.
        tokenizer: folder of roberta-base's tokenizer; by default ``roberta-base`` of the weights folder.
        backend: whose network: the package laion-clap's, or transformers' ClapModel, which needs nothing else
            installed. They agree to 1e-5. None is the package where it is installed (Python below 3.13, which it does
            not know), else transformers.
        int16: pass audio through 16 bits first, as published for TuneJury and by fadtk (FACTS section 5).
    """

    name = "laion-clap"
    dim = 512

    def __init__(
        self,
        checkpoint: str = MUSIC,
        path: str | None = None,
        tokenizer: str | None = None,
        backend: Literal["laion_clap", "transformers"] | None = None,
        int16: bool = True,
    ) -> None:
        nn.Module.__init__(self)
        from fluxlight.weights import locate

        backend = backend or ("laion_clap" if find_spec("laion_clap") else "transformers")
        if backend not in ("laion_clap", "transformers"):
            raise ValueError(f"backend is {backend!r}: use laion_clap or transformers")
        self._made_of = (checkpoint, path, tokenizer, backend, int16)
        self.checkpoint, self.int16, self.facts = checkpoint, int16, {}
        file, words = locate(checkpoint, path), locate("roberta-base", tokenizer)
        state = read_laion(file)
        found = sizes(state, file)
        special = {"<s>": 0, "<pad>": 1, "</s>": 2}
        self.tokenizer = Tokenizer(words, "RobertaTokenizer", found.vocabulary, special)
        self.network = _network(backend, state, found, str(file))
        self.eval().requires_grad_(False)
        levels = "" if int16 else "-float"
        self.identity = f"{self.name}-{checkpoint.removesuffix('.pt')}{levels}-{tensor_digest(state)[:8]}"

    def __reduce__(self) -> tuple[Any, ...]:
        # laion-clap's classes are not importable by name: another process makes its own from the files
        return type(self), self._made_of

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings ``(B, 512)`` of texts; over 77 tokens they are cut with one warning."""
        ids = self.tokenizer(texts)
        out = torch.zeros(len(ids), self.dim, device=self.device)
        by_length: dict[int, list[int]] = {}
        for row, tokens in enumerate(ids):
            by_length.setdefault(len(tokens), []).append(row)
        self.eval()
        # texts of one length together: no padding, which would be masked anyway
        for rows in by_length.values():
            for start in range(0, len(rows), 64):
                part = rows[start : start + 64]
                said = self.network.text(torch.tensor([ids[row] for row in part], device=self.device))
                out[part] = functional.normalize(said, dim=-1)
        return self._finite(out)

    @torch.no_grad()
    def embed_audio(self, audio: Tensor | np.ndarray, sample_rate: int) -> Tensor:
        """Unit embeddings ``(B, 512)`` of mono clips.

        Args:
            audio: samples ``(B, N)`` or ``(N,)``; of more than 10 s the centre.
            sample_rate: Hz; other rates than 48,000 are resampled with soxr.
        """
        wave = listen(audio, sample_rate, RATE)
        if self.int16:
            # toward zero, as numpy's astype: half a step of level is what the published features have
            wave = (wave.clamp(-1, 1) * 32767).trunc() / 32767
        repeated = wave.repeat(1, WINDOW // wave.shape[1])
        wave = functional.pad(repeated, (0, WINDOW - repeated.shape[1]))
        out = [torch.zeros(0, self.dim, device=self.device)]
        self.eval()
        for start in range(0, len(wave), CHUNK):
            part = wave[start : start + CHUNK].to(self.device)
            out.append(functional.normalize(self.network.audio(part), dim=-1))
        return self._finite(torch.cat(out))

    def embed_windows(self, audio: Tensor | np.ndarray, sample_rate: int) -> Tensor:
        """Unit embeddings ``(w, 512)`` of the windows of one clip ``(N,)``: 10 s every second, the tail zero-padded.

        The challenge's way (fadtk, FACTS section 9): the clip is resampled whole and cut then.
        """
        from fluxlight.metrics.windows import cut

        wave = listen(audio, sample_rate, RATE, crop=False)
        if len(wave) != 1:
            raise ValueError(f"audio has {len(wave)} rows: pass one clip (N,)")
        return self.embed_audio(torch.from_numpy(cut(wave[0].numpy(), RATE)), RATE)

    def _finite(self, said: Tensor) -> Tensor:
        if not bool(torch.isfinite(said).all()):
            raise ValueError(f"{self.identity} gave NaN or infinity: is the audio in [-1, 1]?")
        return said


class ClapNetwork(nn.Module):
    """transformers' ClapModel with the weights of a LAION-CLAP checkpoint, and the log-mel front end before it.

    Args:
        state: of the checkpoint, its own names.
        sizes: of the checkpoint.
        source: what an error calls the checkpoint.
    """

    bank: Tensor
    window: Tensor

    def __init__(self, state: Mapping[str, Tensor], sizes: Sizes, source: str) -> None:
        super().__init__()
        from transformers import ClapConfig, ClapModel

        # ClapTextConfig's own epsilon is 1e-12, RoBERTa's is 1e-5 (in `text`): 1e-3 apart in an embedding
        config = ClapConfig(text_config=sizes.text(), audio_config=sizes.audio(), projection_dim=512)
        with torch.random.fork_rng(devices=[]):
            self.clap = ClapModel(config)
        counted = ("text_model.embeddings.position_ids", "text_model.embeddings.token_type_ids")
        load_strict(self.clap, to_transformers(dict(state)), source, REMEDY, may_miss=counted)
        self.register_buffer("bank", state["audio_branch.logmel_extractor.melW"].float().clone(), persistent=False)
        self.register_buffer("window", torch.hann_window(1024), persistent=False)

    def audio(self, wave: Tensor) -> Tensor:
        """Windows ``(B, 480000)`` -> ``(B, 512)``, not normalised."""
        bins = torch.stft(wave, 1024, 480, window=self.window, pad_mode="reflect", return_complex=True)
        power = (bins.real**2 + bins.imag**2).transpose(1, 2) @ self.bank
        mel = 10 * power.clamp(min=1e-10).log10()
        return self.clap.audio_projection(self.clap.audio_model(input_features=mel[:, None]).pooler_output)

    def text(self, ids: Tensor) -> Tensor:
        """Token ids ``(B, T)`` without padding -> ``(B, 512)``, not normalised."""
        said = self.clap.text_model(input_ids=ids, attention_mask=torch.ones_like(ids))
        return self.clap.text_projection(said.pooler_output)


def _network(backend: str, state: Mapping[str, Tensor], sizes: Sizes, source: str) -> Any:
    if backend == "transformers":
        return ClapNetwork(state, sizes, source)
    from fluxlight.encoders.laion_clap_import import LaionNetwork

    return LaionNetwork(state, sizes, source, REMEDY)
