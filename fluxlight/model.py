"""FluxModel: backbone + head + latent normalisation + empty and negative text. What stages wrap and bundles hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fluxlight.backbone.base import Backbone, Ports, Prepared
from fluxlight.heads.base import ScoreHead
from fluxlight.types import Condition


class FluxModel(nn.Module):
    """A velocity model of normalised latents under a text and a score.

    Args:
        backbone: the velocity network; it also holds latent statistics and the empty text's features.
        head: a score head, a function that makes one from the backbone's ports, or None for a text-only model,
            which takes no score and ignores one that is given.
    """

    negative_feat: Tensor
    negative_feat_c: Tensor
    negative_stored: Tensor

    def __init__(self, backbone: Backbone, head: ScoreHead | Callable[[Ports], ScoreHead] | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        made = head if head is None or isinstance(head, ScoreHead) else head(backbone.ports)
        if made is not None and not isinstance(made, ScoreHead):
            raise ValueError(f"head must be a ScoreHead or make one from Ports, got {type(made).__name__}")
        self.head: ScoreHead | None = made
        self.register_buffer("negative_feat", torch.zeros_like(backbone.empty_string_feat))
        self.register_buffer("negative_feat_c", torch.zeros_like(backbone.empty_string_feat_c))
        self.register_buffer("negative_stored", torch.zeros((), dtype=torch.bool))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.latent_mean.device

    def prepare(self, condition: Condition, score: Tensor | None = None, keep: Tensor | None = None) -> Prepared:
        """Everything of a forward that depends on neither x nor t; pass it on as ``condition``.

        Args:
            condition: text ``(B, T, E)`` and ``(B, C)``.
            score: score of each clip ``(B,)``; None is the null score for all.
            keep: ``(B,)`` bool, False gives that row the null score; None keeps all.
        """
        self.backbone.check(None, condition.text, condition.text_c)
        prepared = self.backbone.project_text(condition.text, condition.text_c)
        if self.head is not None:
            n, device = condition.text.shape[0], condition.text.device
            if score is None:
                if keep is not None and bool(keep.any()):
                    raise ValueError("keep asks for a score but score is None: give the scores, or leave keep out")
                score, keep = torch.zeros(n, device=device), torch.zeros(n, dtype=torch.bool, device=device)
            elif keep is None:
                keep = torch.ones_like(score, dtype=torch.bool)
            prepared.injection = self.head(score, keep)
        return prepared

    def velocity(
        self,
        x: Tensor,
        t: Tensor | float,
        condition: Condition | Prepared,
        score: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Velocity ``(B, L, D)`` at normalised ``x`` ``(B, L, D)`` and time ``t`` (``(B,)`` or one number).

        ``condition`` is the text, or what `prepare` made of it (score and keep are then in it already).
        """
        self.backbone.check(x)
        if isinstance(condition, Condition):
            condition = self.prepare(condition, score, keep)
        elif score is not None or keep is not None:
            raise ValueError("a prepared condition already holds its score: give score and keep to prepare()")
        return self.backbone.flow(self.backbone.embed_latent(x), _times(x, t), condition)

    forward = velocity

    def velocities(
        self, x: Tensor, t: Tensor | float, branches: Sequence[Prepared], joined: bool = False
    ) -> list[Tensor]:
        """Velocities ``(B, L, D)`` of one ``x`` under several prepared conditions; the input is projected once.

        ``joined`` runs them as one batch: faster for one or two clips, slower for eight (FACTS section 6).
        """
        times, tokens = _times(x, t), self.backbone.embed_latent(x)
        if not joined or len(branches) == 1:
            return [self.backbone.flow(tokens, times, branch) for branch in branches]
        n = len(branches)
        whole = self.backbone.flow(tokens.repeat(n, 1, 1), times.repeat(n), Prepared.join(list(branches)))
        return list(whole.chunk(n))

    def normalize(self, latent: Tensor) -> Tensor:
        """Codec units ``(B, L, D)`` -> zero mean and unit variance per channel."""
        return (latent - self.backbone.latent_mean) / self.backbone.latent_std

    def unnormalize(self, x: Tensor) -> Tensor:
        """Normalised ``(B, L, D)`` -> codec units."""
        return x * self.backbone.latent_std + self.backbone.latent_mean

    def empty_condition(self, n: int) -> Condition:
        """The stored features of the empty text for ``n`` clips."""
        return _expand(self.backbone.empty_string_feat, self.backbone.empty_string_feat_c, n)

    def negative_condition(self, n: int) -> Condition:
        """The stored features of the negative text for ``n`` clips; those of the empty text when none was set."""
        if not bool(self.negative_stored):
            return self.empty_condition(n)
        return _expand(self.negative_feat, self.negative_feat_c, n)

    def drop_text(self, condition: Condition, keep: Tensor) -> Condition:
        """``condition`` with the empty text, tokens and global together, where ``keep`` ``(B,)`` bool is False."""
        empty = self.empty_condition(len(keep))
        return Condition(
            torch.where(keep[:, None, None], condition.text, empty.text.to(condition.text.dtype)),
            torch.where(keep[:, None], condition.text_c, empty.text_c.to(condition.text_c.dtype)),
        )

    @torch.no_grad()
    def set_latent_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Store mean and standard deviation ``(D,)`` of the training latents, codec units."""
        if not bool((std > 0).all()):
            raise ValueError(f"latent std must be positive, smallest is {std.min().item()}: a channel never varies")
        _fill(self.backbone.latent_mean, mean, "latent mean")
        _fill(self.backbone.latent_std, std, "latent std")

    @torch.no_grad()
    def set_empty(self, text: Tensor, text_c: Tensor) -> None:
        """Store the empty text's features ``(T, E)`` and ``(C,)``."""
        _fill(self.backbone.empty_string_feat, text, "empty text")
        _fill(self.backbone.empty_string_feat_c, text_c, "empty text_c")

    @torch.no_grad()
    def set_negative(self, text: Tensor, text_c: Tensor) -> None:
        """Store the negative text's features ``(T, E)`` and ``(C,)``."""
        _fill(self.negative_feat, text, "negative text")
        _fill(self.negative_feat_c, text_c, "negative text_c")
        self.negative_stored.fill_(True)


def _times(x: Tensor, t: Tensor | float) -> Tensor:
    return t if isinstance(t, Tensor) and t.dim() else torch.full((x.shape[0],), float(t), device=x.device)


def _expand(text: Tensor, text_c: Tensor, n: int) -> Condition:
    return Condition(text.expand(n, -1, -1), text_c.expand(n, -1))


def _fill(buffer: Tensor, value: Tensor, name: str) -> None:
    if value.numel() != buffer.numel() or value.shape[-1] != buffer.shape[-1]:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, the model holds {tuple(buffer.shape)}")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} holds non-finite values")
    buffer.copy_(value.reshape(buffer.shape))
