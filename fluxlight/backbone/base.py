"""What a backbone is: a velocity network that declares the ports where a condition may enter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from fluxlight.recorded import Recorded


@dataclass(frozen=True)
class Ports:
    """Sizes that a score head needs to know about the backbone it plugs into.

    Attributes:
        width: features of a token, of the global condition and of every port, h.
        depth: number of blocks, joint and fused together.
    """

    width: int
    depth: int


@dataclass
class Injection:
    """What a head sends into the ports of a backbone; a field that is None leaves its port closed.

    Attributes:
        input: added to every latent token after the input projection ``(B, 1, h)``.
        relative: added to every latent token, as large beside the tokens as it is beside the global condition c
            ``(B, 1, h)``: times rms(tokens) / rms(c), without gradient.
        condition: added to the global condition c that feeds every adaLN ``(B, 1, h)``.
        latent_tokens: put before the latent tokens and cut off before the output ``(B, n, h)``.
        text_tokens: put before the text tokens ``(B, n, h)``.
        blocks: scale and shift of the latent stream before each block ``(B, depth, 2, h)``: x (1 + scale) + shift.
        latent_keep: False hides a prepended latent token from attention and convolutions ``(B, n)`` bool.
        text_keep: False hides a prepended text token from attention ``(B, n)`` bool.
    """

    input: Tensor | None = None
    relative: Tensor | None = None
    condition: Tensor | None = None
    latent_tokens: Tensor | None = None
    text_tokens: Tensor | None = None
    blocks: Tensor | None = None
    latent_keep: Tensor | None = None
    text_keep: Tensor | None = None


@dataclass
class Prepared:
    """Everything of a forward that depends on neither latent nor time: computed once per sampling run.

    Attributes:
        text: projected text tokens ``(B, T, h)``.
        text_c: projected global text condition ``(B, 1, h)``.
        injection: what the head sends, or None without a head.
    """

    text: Tensor
    text_c: Tensor
    injection: Injection | None = None

    @staticmethod
    def join(parts: list[Prepared]) -> Prepared:
        """One Prepared whose batch is the parts' batches in order (same head, same text length)."""
        injections = [part.injection for part in parts]
        joined: Injection | None = None
        if injections[0] is not None:
            columns = {f.name: [getattr(i, f.name) for i in injections] for f in fields(Injection)}
            joined = Injection(**{name: None if c[0] is None else torch.cat(c) for name, c in columns.items()})
        return Prepared(torch.cat([p.text for p in parts]), torch.cat([p.text_c for p in parts]), joined)


class Backbone(Recorded, nn.Module, ABC):
    """A velocity network over latents ``(B, L, D)`` with text and a global condition.

    A subclass sets the attributes below and implements the three steps of a forward; ``forward`` chains them.
    They are apart because two branches of guidance share the first and a sampling run needs the second once.

    Attributes:
        latent_dim: D, channels of a latent.
        latent_seq_len: L, latents of a clip.
        text_dim: E, features of a text token.
        text_seq_len: T, tokens of a text.
        text_c_dim: C, features of the global text embedding.
        latent_mean, latent_std: statistics of the training latents ``(1, 1, D)``.
        empty_string_feat, empty_string_feat_c: features of the empty text ``(T, E)`` and ``(C,)``.
    """

    latent_dim: int
    latent_seq_len: int
    text_dim: int
    text_seq_len: int
    text_c_dim: int
    latent_mean: Tensor
    latent_std: Tensor
    empty_string_feat: Tensor
    empty_string_feat_c: Tensor

    @property
    @abstractmethod
    def ports(self) -> Ports:
        """Sizes for a head."""

    @abstractmethod
    def embed_latent(self, latent: Tensor) -> Tensor:
        """Input projection: normalised latents ``(B, L, D)`` -> tokens ``(B, L, h)``."""

    @abstractmethod
    def project_text(self, text_f: Tensor, text_f_c: Tensor) -> Prepared:
        """Condition projections of ``(B, T, E)`` and ``(B, C)``, without an injection."""

    @abstractmethod
    def flow(self, tokens: Tensor, t: Tensor, prepared: Prepared) -> Tensor:
        """The blocks: tokens ``(B, L, h)`` at times ``(B,)`` in [0, 1] -> velocity ``(B, L, D)``."""

    def forward(
        self, latent: Tensor, t: Tensor, text_f: Tensor, text_f_c: Tensor, injection: Injection | None = None
    ) -> Tensor:
        """Velocity ``(B, L, D)`` of normalised latents.

        Args:
            latent: x_t ``(B, L, D)``, normalised.
            t: flow time ``(B,)``; 1 is noise, 0 is data.
            text_f: token features ``(B, T, E)``.
            text_f_c: global text embedding ``(B, C)``.
            injection: what a head sends into the ports.
        """
        self.check(latent, text_f, text_f_c)
        prepared = self.project_text(text_f, text_f_c)
        prepared.injection = injection
        return self.flow(self.embed_latent(latent), t, prepared)

    def compile_blocks(self, backend: str = "inductor") -> None:
        """Compile each part of `heavy` by itself, in place: names of parameters stay, a copy is not compiled."""
        for part in self.heavy:
            part.compile(backend=backend)

    @property
    def heavy(self) -> list[nn.Module]:
        """Parts worth compiling; parts of one class share what the compiler makes. None unless a subclass says so."""
        return []

    def check(self, latent: Tensor | None, text_f: Tensor | None = None, text_f_c: Tensor | None = None) -> None:
        """Raise one clear line when the last dimension of an input does not fit."""
        for name, value, rank, size, setting in (
            ("latent", latent, 3, self.latent_dim, "latent_dim"),
            ("text_f", text_f, 3, self.text_dim, "text_dim"),
            ("text_f_c", text_f_c, 2, self.text_c_dim, "text_c_dim"),
        ):
            if value is not None and (value.dim() != rank or value.shape[-1] != size):
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}, the backbone takes {rank} dimensions with {setting} "
                    f"{size} last: set {setting} to that of the codec and encoders that made the data"
                )
