"""TuneJury as published: its head on LAION-CLAP and MERT (FACTS section 5). The weights are CC-BY-NC 4.0."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from fluxlight.encoders.base import TextAudioModel
from fluxlight.encoders.laion_clap import MUSIC, LaionClap
from fluxlight.encoders.mert import Mert
from fluxlight.prompts import is_empty
from fluxlight.rewards.base import Reward, check_audio
from fluxlight.rewards.tunejury import TuneJury
from fluxlight.weights.frozen import tensor_digest

HEAD = "tunejury.pt"
HEARD = {"clap_audio", "mert", "clap_text"}
"""Inputs of a head whose encoders are here; MuQ's are not."""


class TuneJuryReward(Reward):
    """A TuneJury head and the encoders it asks for: released ones take CLAP audio 512 | MERT 1024 | CLAP text 512.

    The layout is read off the file: the head of 2048 inputs takes all three, that of 1024 both CLAP embeddings, that
    of 512 the CLAP audio alone. The MuQ head scores embeddings that are given (`score_features`), its encoder is not
    offered. A head of your own votes (`fluxlight votes`, then `TuneJuryRanker`) says in its file what it takes: give
    the CLAP it was trained on. An empty prompt is a zero text embedding. Only the centre 10 s are heard.

    Args:
        head: file of the head; by default ``tunejury.pt`` of the weights folder.
        clap: the LAION-CLAP to share; by default the published one, if the head needs it.
        mert: the MERT to share; by default the published one, if the head needs it.

    Attributes:
        clap_identity: the CLAP whose embeddings `score_embeddings` takes, "" where none is needed.
    """

    def __init__(self, head: str | None = None, clap: TextAudioModel | None = None, mert: Mert | None = None) -> None:
        super().__init__()
        from fluxlight.weights import locate

        self.head = TuneJury.from_file(locate(HEAD, head)).requires_grad_(False)
        self.needs = tuple(name for name, _ in self.head.inputs)
        hears = set(self.needs) <= HEARD
        self.clap = (clap or LaionClap()) if hears else None
        self.mert = (mert or Mert()) if hears and "mert" in self.needs else None
        widths = dict(self.head.inputs)
        for encoder, names in ((self.clap, ("clap_audio", "clap_text")), (self.mert, ("mert",))):
            width = next((widths[name] for name in names if name in widths), None)
            if encoder is not None and width is not None and encoder.dim != width:
                raise ValueError(
                    f"{encoder.identity} is {encoder.dim} wide, TuneJury takes {width}: use the published one"
                )
        if isinstance(self.clap, LaionClap) and self.clap.checkpoint != MUSIC:
            raise ValueError(f"TuneJury was trained on {MUSIC}, not on {self.clap.checkpoint}: use the former")
        self.clap_identity = self.clap.identity if self.clap is not None else ""
        parts = [tensor_digest(self.head.state_dict()), self.clap_identity, self.mert.identity if self.mert else ""]
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        self.identity = f"tunejury-{self.head.prefix}-{self.head.input_dim}-{digest[:8]}"

    def score(self, audio: Tensor, sample_rate: int, prompts: Sequence[str]) -> Tensor:
        """Score clips ``(B, N)`` against B prompts: ``(B,)`` (see the base class)."""
        clap = self._hearing()
        audio = check_audio(audio, sample_rate)
        text = self.embed_prompts(self.check_prompts(prompts, len(audio)))
        return self.score_embeddings(clap.embed_audio(audio, sample_rate), self.descriptors(audio, sample_rate), text)

    def score_heard(
        self, audio: Tensor, sample_rate: int, prompts: Sequence[str], heard: Tensor, text: Tensor | None = None
    ) -> Tensor:
        """See `Reward.score_heard`."""
        said = self.embed_prompts(self.check_prompts(prompts, len(audio))) if text is None else text
        return self.score_embeddings(heard, self.descriptors(audio, sample_rate), said)

    def descriptors(self, audio: Tensor, sample_rate: int) -> Tensor:
        """The second audio embedding of clips ``(B, N)``: MERT's ``(B, 1024)``, or ``(B, 0)`` for a head without."""
        if self.mert is None:
            return torch.zeros(len(audio), 0)
        return self.mert.embed_audio(check_audio(audio, sample_rate), sample_rate)

    def embed_prompts(self, prompts: Sequence[str]) -> Tensor:
        """CLAP text embeddings ``(B, 512)``, zeros for an empty prompt; equal prompts are embedded once."""
        clap = self._hearing()
        out = torch.zeros(len(prompts), clap.dim)
        distinct = sorted({prompt for prompt in prompts if not is_empty(prompt)})
        if distinct and "clap_text" in self.needs:
            table = dict(zip(distinct, clap.embed_text(distinct).cpu(), strict=True))
            for row, prompt in zip(out, prompts, strict=True):
                if prompt in table:
                    row.copy_(table[prompt])
        return out

    def score_embeddings(self, clap_audio: Tensor, second: Tensor, clap_text: Tensor) -> Tensor:
        """Scores ``(B,)`` of embeddings at hand: CLAP audio and text ``(B, 512)``, MERT ``(B, 1024)`` or none."""
        return self.score_features(clap_audio=clap_audio, mert=second, clap_text=clap_text)

    @torch.no_grad()
    def score_features(self, **embeddings: Tensor) -> Tensor:
        """Scores ``(B,)`` of named embeddings ``(B, width)``; those the head does not take are left out."""
        place = next(self.head.parameters())
        self.head.eval()
        said = self.head(self.head.join(**{name: value.to(place) for name, value in embeddings.items()}))
        if not bool(torch.isfinite(said).all()):
            row = int((~torch.isfinite(said)).nonzero()[0])
            raise ValueError(
                f"{self.identity} gave a score that is not finite for clip {row}: are its embeddings finite?"
            )
        return said

    def _hearing(self) -> TextAudioModel:
        if self.clap is None:
            asked = ", ".join(f"{name} {width}" for name, width in self.head.inputs)
            raise ValueError(
                f"this TuneJury head takes [{asked}], whose encoder is not offered here: "
                "call score_features with such embeddings, or use a head on CLAP and MERT"
            )
        return self.clap
