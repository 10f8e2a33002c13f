"""RenderSlice: the one place where the latents of a validation become clips; every measure and the table read these."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from callbacks.rehearsal import rehearse
from fluxlight.clips.candidates import write_batch
from fluxlight.codec import Codec
from fluxlight.device import chosen
from fluxlight.model import FluxModel
from fluxlight.types import Clip, PromptBatch

NEVER = 1 << 62
"""A number of batches that no epoch has."""


def decoded(codec: Codec, latents: Tensor, device: str) -> Tensor:
    """Audio ``(B, N)`` on the CPU of latents ``(B, L, D)``, decoded where ``device`` says."""
    place = chosen(device)
    return codec.to(place).decode(latents.to(place)).cpu()


class RenderSlice(L.Callback):
    """Decodes, post-processes and writes the prompt slice, once per validation, in the order of the prompts.

    The folder has the format of a candidates folder: ``candidates.jsonl``, ``audio/``, ``latents/``. It is replaced as
    a whole when a new rendering is complete. What is measured is what was written: the clips pass through 16 bit.
    Every process keeps and embeds its own clips; what measures ask for is gathered and sorted. All is let go when the
    validation ends.

    Args:
        codec: latents -> audio.
        postprocess: callables on a `Clip`, applied in order (`fluxlight.postprocess`).
        folder: below the run folder.
        device: where the codec runs: cpu, cuda, mps, or auto for the GPU where there is one; clips of two devices are
            equal to float tolerance only.

    Attributes:
        clips: of this process, until the validation ends.
        total: how many all processes have; 0 when nothing was rendered.
    """

    def __init__(
        self,
        codec: Codec,
        postprocess: list[Callable[[Clip], Clip]] | None = None,
        folder: str = "slice",
        device: str = "cpu",
    ) -> None:
        self.codec, self.postprocess, self.folder, self.device = codec, postprocess or [], folder, device
        self._forget()

    def _forget(self) -> None:
        self.total = 0
        self.clips: list[Clip] = []
        self._rows: list[tuple[int, str, str, Tensor]] = []
        self._cache: dict[str, Tensor] = {}

    @staticmethod
    def of(trainer: L.Trainer) -> RenderSlice:
        """The trainer's RenderSlice; a measure without one is an error in the config."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RenderSlice):
                return callback
        raise ValueError(
            "callbacks measure the slice but none renders it: put callbacks.RenderSlice first in trainer.callbacks"
        )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check the codec against the store, and the order of callbacks, before anything is trained."""
        refuse_averaging_before(trainer, self)
        check_codec(trainer, self.codec)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Try everything on one clip."""
        rehearse(trainer, self.codec, self.postprocess, self.device)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Let a validation follow if this batch ended an update after which the slice is due, and only then."""
        if hasattr(pl_module, "render_due"):
            whole = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
            trainer.check_val_every_n_epoch = 1
            trainer.val_check_batch = batch_idx + 1 if whole and pl_module.render_due else NEVER

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin anew."""
        self._forget()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let clips and embeddings go: training needs the memory."""
        self._forget()

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Decode the latents of a batch, if this validation rendered any."""
        if outputs is None:
            return
        audio = decoded(self.codec, outputs.detach(), self.device)
        for row, (id, prompt, seed) in enumerate(zip(batch.id, batch.prompt, batch.seed.tolist(), strict=True)):
            clip = Clip(id, audio[row], self.codec.sample_rate, prompt)
            for step in self.postprocess:
                clip = step(clip)
            self.clips.append(clip)
            self._rows.append((seed, id, prompt, outputs[row].detach().cpu()))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the clips of all processes in prompt order."""
        self.clips = [as_written(clip) for clip in self.clips]
        self.total = sum(gather([len(self.clips)]))
        if not self.total:
            return
        everything = gather(list(zip(self._rows, self.clips, strict=True)))
        if trainer.is_global_zero:
            # the noise seed is base + position in the slice, hence the order of prompts
            everything.sort(key=lambda item: item[0][0])
            self._write(Path(trainer.default_root_dir), pl_module, int(trainer.global_step), everything)

    def _write(self, run: Path, stage: Any, step: int, everything: list[Any]) -> None:
        new, final = run / f".{self.folder}.new", run / self.folder
        shutil.rmtree(new, ignore_errors=True)
        checkpoint = weights_hash(stage.model)
        extra = {
            "step": step,
            "sampler": stage.sampling,
            "codec": self.codec.identity,
            "postprocess": [type(p).__name__ for p in self.postprocess],
        }
        for (seed, id, prompt, latent), clip in everything:
            write_batch(
                new,
                [id],
                [prompt],
                [seed],
                checkpoint,
                clip.audio[None],
                latent[None],
                clip.sample_rate,
                extra | {"notes": clip.notes},
            )
        old = run / f".{self.folder}.old"
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
            final.rename(old)
        new.rename(final)
        shutil.rmtree(old, ignore_errors=True)

    def embeddings(self, embedder: Any) -> Tensor:
        """Audio embeddings of all clips ``(n, d)`` in prompt order, made once per embedder."""
        return self._once(f"{embedder.identity} audio", lambda: embedder.embed_audio(self._waves(), self._rate))

    def text_embeddings(self, embedder: Any) -> Tensor:
        """Text embeddings of all prompts ``(n, d)`` in prompt order, made once per embedder."""
        return self._once(f"{embedder.identity} text", lambda: embedder.embed_text([c.prompt for c in self.clips]))

    def rewards(self, reward: Any, batch_size: int = 10) -> Tensor:
        """Rewards of all clips ``(n,)`` in prompt order, made once per reward, ``batch_size`` clips at a time."""

        def score() -> Tensor:
            prompts = [clip.prompt for clip in self.clips]
            starts = range(0, len(prompts), batch_size)
            parts = [slice(start, start + batch_size) for start in starts]
            return torch.cat([reward.score(self._waves(part), self._rate, prompts[part]) for part in parts])

        return self._once(f"{reward.identity} reward", score)

    def _waves(self, part: slice = slice(None)) -> Tensor:
        return torch.stack([clip.audio for clip in self.clips[part]])

    @property
    def _rate(self) -> int:
        return self.codec.sample_rate

    def _once(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """``make`` for the clips of this process, joined with those of the others; a collective call."""
        if key not in self._cache:
            with torch.no_grad():
                mine = list(make().detach().cpu()) if self.clips else []
            seeds = [row[0] for row in self._rows]
            joined = sorted(gather(list(zip(seeds, mine, strict=True))), key=lambda item: item[0])
            self._cache[key] = torch.stack([value for _, value in joined])
        return self._cache[key]


def as_written(clip: Clip) -> Clip:
    """The clip with the samples that a 16-bit file gives back, so that table and callbacks measure the same."""
    wave = (clip.audio.detach().float().cpu().clamp(-1, 1) * 32767).round() / 32768
    return Clip(clip.id, wave, clip.sample_rate, clip.prompt, clip.notes)


def gather(items: list[Any]) -> list[Any]:
    """The items of all processes on every process."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return items
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def weights_hash(model: FluxModel) -> str:
    """What `fluxlight.bundle.bundle_hash` says of a bundle of these weights, without writing one."""
    import hashlib

    from safetensors.torch import save

    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    return hashlib.sha256(save(state)).hexdigest()[:16]


def check_codec(trainer: L.Trainer, codec: Codec) -> None:
    """Refuse a codec that did not make the store's latents."""
    store = getattr(getattr(trainer, "datamodule", None), "store", None)
    if store is None:
        return
    made = store.meta["identities"].get("codec")
    if made is not None and made != codec.identity:
        raise ValueError(
            f"store {store.folder} was encoded by {made}, the callbacks decode with {codec.identity}: encode it again"
        )


def refuse_averaging_before(trainer: L.Trainer, callback: L.Callback) -> None:
    """Averaging swaps weights in list order: before ``callback`` it would hand it the wrong ones."""
    for other in trainer.callbacks:  # type: ignore[attr-defined]
        if other is callback:
            return
        if isinstance(other, WeightAveraging):
            raise ValueError(
                f"{type(other).__name__} stands before {type(callback).__name__} in trainer.callbacks: "
                "put the averaging last"
            )
