"""The embedded rewards: TuneJury's architecture on our own CLAPs and signal descriptors, trained on known damage.

Reward A drives (score column, selection); reward B has another CLAP, other descriptors and other tunes, and only
evaluates. Both say how a clip of this corpus compares to a damaged or mislabelled one; they have never met a
listener, and off the corpus they are a guess.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fluxlight.encoders.base import TextAudioModel
from fluxlight.rewards.base import Reward, check_audio
from fluxlight.rewards.calibration import Affine
from fluxlight.rewards.descriptors import FRONT_A, FRONT_B, FrontEnd, SignalDescriptors
from fluxlight.rewards.tunejury import TuneJury
from fluxlight.weights.frozen import own_state, read_frozen, shipped, write_frozen

CHUNK = 1  # clips whose spectra are held at once: on a CPU one stays in the cache (24 ms a clip against 32 at four)


class EmbeddedReward(Reward):
    """[CLAP audio 128 | signal descriptors | CLAP text 128] -> TuneJury head -> affine scale.

    Subclasses give ``name``, ``front`` and ``make_clap``. An empty prompt is a zero text embedding (FACTS section 5).

    Args:
        clap: an audio-text model to share; None loads the shipped one on first use. It must be the very one the head
            was trained on.
        weights: ``shipped``, a path, or None for an untrained reward.

    Attributes:
        descriptors: the second audio embedding.
        head: the MLP.
        clap_identity: the CLAP the head was trained on, "" before training.
        facts: what the file's header says about training and accuracy.
    """

    name: str
    version: int = 1
    front: FrontEnd
    clap_dim: int = 128
    affine: Tensor

    def __init__(self, clap: TextAudioModel | None = None, weights: str | Path | None = "shipped") -> None:
        super().__init__()
        self.descriptors = SignalDescriptors(self.front)
        wide = self.clap_dim
        self.head = TuneJury([("clap_audio", wide), ("signal", self.descriptors.dim), ("clap_text", wide)])
        self.register_buffer("affine", torch.tensor([1.0, 0.0]))
        self.identity = f"{self.name}-v{self.version}-untrained"
        self.clap_identity = ""
        self.facts: dict[str, object] = {}
        if weights is not None:
            self.load(shipped(f"{self.name.replace('-', '_')}.safetensors") if weights == "shipped" else weights)
        self._clap: TextAudioModel | None = None
        if clap is not None:
            self._clap = self._checked(clap)

    def make_clap(self) -> TextAudioModel:
        """The shipped CLAP this reward stands on."""
        raise NotImplementedError

    @property
    def clap(self) -> TextAudioModel:
        """The audio-text model, loaded on first use."""
        if self._clap is None:
            self._clap = self._checked(self.make_clap()).to(self.affine.device)
        return self._clap

    def _checked(self, clap: TextAudioModel) -> TextAudioModel:
        if self.clap_identity and clap.identity != self.clap_identity:
            raise ValueError(
                f"{self.identity} was trained on {self.clap_identity}, not on {clap.identity}: pass the former"
            )
        return clap

    def embed(self, audio: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
        """CLAP audio embedding ``(B, 128)`` and standardised descriptors ``(B, S)`` of clips ``(B, N)``."""
        audio = check_audio(audio, sample_rate).to(self.affine.device)
        second = self.describe(audio, sample_rate)
        return self.clap.embed_audio(audio, sample_rate).to(second), second

    def describe(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Standardised descriptors ``(B, S)`` of clips ``(B, N)``."""
        audio = check_audio(audio, sample_rate).to(self.affine.device)
        return torch.cat([self.descriptors(part, sample_rate) for part in audio.split(CHUNK)])

    def score_heard(
        self, audio: Tensor, sample_rate: int, prompts: Sequence[str], heard: Tensor, text: Tensor | None = None
    ) -> Tensor:
        """See `Reward.score_heard`."""
        second = self.describe(audio, sample_rate)
        said = self.embed_prompts(self.check_prompts(prompts, len(second))) if text is None else text
        return self.score_embeddings(heard.to(second), second, said)

    def embed_prompts(self, prompts: Sequence[str]) -> Tensor:
        """CLAP text embeddings ``(B, 128)``, zeros for an empty prompt; equal prompts are embedded once."""
        distinct = sorted({prompt for prompt in prompts if prompt.strip()})
        rows = self.clap.embed_text(distinct).to(self.affine) if distinct else self.affine.new_zeros(0, self.clap_dim)
        table = {prompt: row for prompt, row in zip(distinct, rows, strict=True)}
        empty = self.affine.new_zeros(self.clap_dim)
        return torch.stack([table.get(prompt, empty) for prompt in prompts])

    def score(self, audio: Tensor, sample_rate: int, prompts: Sequence[str]) -> Tensor:
        """Score clips ``(B, N)`` against B prompts: ``(B,)`` (see the base class)."""
        clap_audio, second = self.embed(audio, sample_rate)
        return self.score_embeddings(clap_audio, second, self.embed_prompts(self.check_prompts(prompts, len(second))))

    @torch.no_grad()
    def score_embeddings(self, clap_audio: Tensor, second: Tensor, clap_text: Tensor) -> Tensor:
        """Scores ``(B,)`` of embeddings that are at hand: CLAP audio and text ``(B, 128)``, descriptors ``(B, S)``."""
        training = self.head.training
        self.head.eval()
        raw = self.head(self.join(clap_audio, second, clap_text))
        self.head.train(training)
        return self.affine[0] * raw + self.affine[1]

    def join(self, clap_audio: Tensor, second: Tensor, clap_text: Tensor) -> Tensor:
        """Input of the head ``(B, 256 + S)``; the descriptors are brought to the norm of a CLAP embedding, about 1."""
        # the head's weights are fp32; embeddings kept in half precision are welcome
        second = second.float() / second.shape[1] ** 0.5
        return self.head.join(clap_audio=clap_audio.float(), signal=second, clap_text=clap_text.float())

    def set_affine(self, affine: Affine) -> None:
        """Take over a calibration."""
        self.affine = torch.tensor([affine.scale, affine.shift]).to(self.affine)

    def save(self, path: str | Path, facts: dict[str, object] | None = None) -> str:
        """Write head (matrices fp16, the rest fp32), standardisation and calibration; returns the new identity."""
        kept = {k: v.to(torch.float16 if v.ndim == 2 else torch.float32) for k, v in self._own_state().items()}
        self.clap_identity = self.clap.identity
        calibration = json.dumps({"scale": float(self.affine[0]), "shift": float(self.affine[1])})
        said = {"clap": self.clap_identity, "calibration": calibration}
        self.identity = write_frozen(path, kept, self.name, self.version, facts or {}, **said)
        self.facts = dict(facts or {})
        return self.identity

    def load(self, path: str | Path) -> None:
        """Read a file written by ``save`` and freeze; a wrong or damaged one is one clear error."""
        frozen = read_frozen(path, self.name, self._own_state())
        self.load_state_dict(frozen.tensors, strict=False)
        self.eval().requires_grad_(False)
        self.identity, self.facts, self.clap_identity = frozen.identity, frozen.facts, frozen.header["clap"]

    def _own_state(self) -> dict[str, Tensor]:
        """What the file holds: everything but the CLAP."""
        return own_state(self.state_dict(), without="_clap.")


class RewardA(EmbeddedReward):
    """The reward that drives: CLAP-A, descriptors of Hann windows and means, split ``judge_a``."""

    name, front = "reward-a", FRONT_A

    def make_clap(self) -> TextAudioModel:
        """The shipped CLAP-A."""
        from fluxlight.encoders.clap_a import ClapA

        return ClapA()


class RewardB(EmbeddedReward):
    """The reward that only judges: CLAP-B, descriptors of Blackman windows and medians, split ``judge_b``."""

    name, front = "reward-b", FRONT_B

    def make_clap(self) -> TextAudioModel:
        """The shipped CLAP-B."""
        from fluxlight.encoders.clap_b import ClapB

        return ClapB()
