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

from fluxlight.codec import Codec
from fluxlight.mining.candidates import write_batch
from fluxlight.model import FluxModel
from fluxlight.types import Clip, PromptBatch


class RenderSlice(L.Callback):
    """Decodes, post-processes and writes the prompt slice, once per validation, in the order of the prompts.

    The folder has the format of a candidates folder: ``candidates.jsonl``, ``audio/``, ``latents/``. It is replaced as
    a whole when a new rendering is complete. What is measured is what was written: the clips pass through 16 bit.

    Args:
        codec: latents -> audio.
        postprocess: callables on a `Clip`, applied in order (`fluxlight.postprocess`).
        folder: below the run folder.
    """

    def __init__(
        self, codec: Codec, postprocess: list[Callable[[Clip], Clip]] | None = None, folder: str = "slice"
    ) -> None:
        self.codec, self.postprocess, self.folder = codec, postprocess or [], folder
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

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the last rendering."""
        self.clips, self._rows, self._cache = [], [], {}

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
        audio = self.codec.decode(outputs.detach().cpu())
        for row, (id, prompt, seed) in enumerate(zip(batch.id, batch.prompt, batch.seed.tolist(), strict=True)):
            clip = Clip(id, audio[row], self.codec.sample_rate, prompt)
            for step in self.postprocess:
                clip = step(clip)
            self.clips.append(clip)
            self._rows.append((seed, id, prompt, outputs[row].detach().cpu()))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gather the clips of all processes in prompt order and write them."""
        if not (joined := gather(trainer, list(zip(self._rows, self.clips, strict=True)))):
            return
        # the noise seed is base + position in the slice, hence the order of prompts
        joined.sort(key=lambda item: item[0][0])
        self._rows, self.clips = [row for row, _ in joined], [as_written(clip) for _, clip in joined]
        if trainer.is_global_zero:
            self._write(Path(trainer.default_root_dir), pl_module, int(trainer.global_step))

    def _write(self, run: Path, stage: Any, step: int) -> None:
        new, final = run / f".{self.folder}.new", run / self.folder
        shutil.rmtree(new, ignore_errors=True)
        checkpoint = weights_hash(stage.model)
        extra = {
            "step": step,
            "sampler": stage.sampling,
            "codec": self.codec.identity,
            "postprocess": [type(p).__name__ for p in self.postprocess],
        }
        for (seed, id, prompt, latent), clip in zip(self._rows, self.clips, strict=True):
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
        """Audio embeddings of the clips ``(n, d)``, made once per embedder."""
        return self._once(
            embedder,
            "audio",
            lambda: embedder.embed_audio(torch.stack([c.audio for c in self.clips]), self.clips[0].sample_rate),
        )

    def text_embeddings(self, embedder: Any) -> Tensor:
        """Text embeddings of the prompts ``(n, d)``, made once per embedder."""
        return self._once(embedder, "text", lambda: embedder.embed_text([clip.prompt for clip in self.clips]))

    def _once(self, embedder: Any, side: str, make: Callable[[], Tensor]) -> Tensor:
        key = f"{embedder.identity} {side}"
        if key not in self._cache:
            with torch.no_grad():
                self._cache[key] = make().detach().cpu()
        return self._cache[key]


def as_written(clip: Clip) -> Clip:
    """The clip with the samples that a 16-bit file gives back, so that table and callbacks measure the same."""
    wave = (clip.audio.detach().float().cpu().clamp(-1, 1) * 32767).round() / 32768
    return Clip(clip.id, wave, clip.sample_rate, clip.prompt, clip.notes)


def gather(trainer: L.Trainer, items: list[Any]) -> list[Any]:
    """The items of all processes on every process."""
    if trainer.world_size == 1:
        return items
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, items)
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
