"""Renderer: latents to clips to files, the one way for slices, candidates, generated clips and experiments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fluxlight.clips.candidates import NOT_FINITE, Key, write_batch
from fluxlight.clips.spread import Spread, spread_of
from fluxlight.codec import Codec
from fluxlight.device import chosen
from fluxlight.postprocess import PostProcess, process_many
from fluxlight.types import Candidate, Clip


@dataclass
class Rendered:
    """What became of one latent.

    Attributes:
        clip: as delivered; its audio is NaN where there is an error.
        latent: ``(L, D)``, codec units.
        error: why there is no usable clip, or "".
        spread: of the normalised latent; None of a failed one, and where no latent statistics were given.
    """

    clip: Clip
    latent: Tensor
    error: str = ""
    spread: Spread | None = None


class Renderer:
    """Decodes latents and post-processes what comes out. A latent or clip that is not finite is a failed one.

    Args:
        codec: latents -> audio.
        postprocess: steps on a `Clip`, applied in order, to many clips at once where a step can.
        device: where the codec runs: cpu, cuda, mps, or auto for the GPU where there is one; clips of two devices are
            equal to float tolerance only.
    """

    def __init__(
        self, codec: Codec, postprocess: Sequence[PostProcess] | None = None, device: str | torch.device = "cpu"
    ) -> None:
        self.codec, self.postprocess, self.device = codec, list(postprocess or []), str(device)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Audio ``(B, N)`` float32 on the CPU of latents ``(B, L, D)``; a row that is not finite is NaN."""
        fine = torch.isfinite(latents).flatten(1).all(1)
        place = chosen(self.device)
        audio = self.codec.to(place).decode(torch.where(fine[:, None, None], latents, 0).to(place)).float().cpu()
        return audio.masked_fill(~(fine.cpu() & torch.isfinite(audio).all(1))[:, None], math.nan)

    def render(
        self,
        ids: Sequence[str],
        prompts: Sequence[str],
        latents: Tensor,
        normalize: Callable[[Tensor], Tensor] | None = None,
    ) -> list[Rendered]:
        """Clips of latents ``(B, L, D)``, post-processed, in their order.

        Args:
            ids, prompts: of each.
            latents: codec units.
            normalize: codec units -> what the training data is 0 and 1 in (`FluxModel.normalize`), for the spread.
        """
        rows = [
            Rendered(Clip(id, wave, self.codec.sample_rate, prompt), latent.detach().cpu())
            for id, prompt, wave, latent in zip(ids, prompts, self.decode(latents), latents, strict=True)
        ]
        fine = [row for row in rows if bool(torch.isfinite(row.clip.audio).all())]
        for row, clip in zip(fine, process_many([row.clip for row in fine], self.postprocess), strict=True):
            row.clip = clip
        for row in rows:
            row.error = "" if bool(torch.isfinite(row.clip.audio).all()) else NOT_FINITE
        if normalize is not None:
            for row, latent in zip(rows, normalize(latents.detach()).float().cpu(), strict=True):
                row.spread = None if row.error else spread_of(latent[None].numpy())
        return rows

    @property
    def facts(self) -> dict[str, Any]:
        """What a row of a clip says about how it was rendered."""
        return {"codec": self.codec.identity, "postprocess": [type(step).__name__ for step in self.postprocess]}

    def write(
        self,
        folder: Path,
        rows: Sequence[Rendered],
        seeds: Sequence[int],
        checkpoint: str,
        extra: dict[str, Any],
        done: set[Key] | None = None,
    ) -> list[Candidate]:
        """Append rendered clips to a candidates folder; see `write_batch`."""
        return write_batch(
            folder, [row.clip.id for row in rows], [row.clip.prompt for row in rows], seeds, checkpoint,
            [row.clip.audio for row in rows], torch.stack([row.latent for row in rows]) if rows else torch.empty(0),
            self.codec.sample_rate, extra, done, [row.clip.notes for row in rows], [row.error for row in rows],
            [row.spread.plain() if row.spread else None for row in rows],
        )  # fmt: skip
