"""RenderSlice: the one place where the latents of a validation become clips; every measure and the table read these."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from callbacks.rehearsal import rehearse
from fluxlight.clips.spread import pooled
from fluxlight.clips.write import as_written
from fluxlight.codec import Codec
from fluxlight.device import gather
from fluxlight.evaluation.judging import prepare
from fluxlight.files import some_names
from fluxlight.model import FluxModel
from fluxlight.postprocess import PostProcess
from fluxlight.prompts import half_of
from fluxlight.render import Rendered, Renderer
from fluxlight.types import Clip, PromptBatch

PROTOCOL = "locked"
"""Loudness under which the slice is measured: that of the tables (`fluxlight.evaluation.judging`)."""
NEVER = 1 << 62
"""A number of batches that no epoch has."""


class RenderSlice(L.Callback):
    """Decodes, post-processes and writes the prompt slice, once per validation, in the order of the prompts.

    The folder has the format of a candidates folder: ``candidates.jsonl``, ``audio/``, ``latents/``. It is replaced as
    a whole when a new rendering is complete. What is measured is what was written, at the loudness of the tables. A
    clip that is not finite is a row with its error and left out of every measure; ``val/failed`` counts such clips.
    ``val/spread`` is the rms of the normalised latents, 1 for the training data, ``val/spread_distance`` how far they
    are from its (`fluxlight.clips.spread`); each row has its own.
    Where the data says ``slice_measured: false`` the measures leave it at these three.
    Every process keeps and embeds its own clips; what measures ask for is gathered and sorted. All is let go when the
    validation ends.

    Args:
        codec: latents -> audio.
        postprocess: callables on a `Clip`, applied in order (`fluxlight.postprocess`).
        folder: below the run folder.
        device: where the codec runs: cpu, cuda, mps, or auto for the GPU where there is one; clips of two devices are
            equal to float tolerance only.
        half: measure this half of the prompts alone ("choose" or "report", `fluxlight.prompts.half_of`): a search
            that chooses on one leaves the other to report on. All are rendered; null measures all.

    Attributes:
        clips: of this process, as delivered, until the validation ends.
        total: how many all processes have; 0 when nothing was rendered, or nothing usable.
    """

    def __init__(
        self,
        codec: Codec,
        postprocess: list[PostProcess] | None = None,
        folder: str = "slice",
        device: str = "cpu",
        half: Literal["choose", "report"] | None = None,
    ) -> None:
        self.renderer, self.folder, self.half = Renderer(codec, postprocess, device), folder, half
        self._forget()

    def _forget(self) -> None:
        self.total = 0
        self.clips: list[Clip] = []
        self._rows: list[tuple[int, Rendered]] = []
        self._seeds: list[int] = []
        self._heard: list[Tensor] = []
        self._cache: dict[str, Tensor] = {}
        self._mine: dict[str, Tensor] = {}

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
        check_codec(trainer, self.renderer.codec)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Try everything on one clip."""
        rehearse(trainer, self.renderer, PROTOCOL)

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
        pl_module: Any,
        outputs: Any,
        batch: PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Decode the latents of a batch, if this validation rendered any."""
        if outputs is not None:
            rows = self.renderer.render(batch.id, batch.prompt, outputs.detach(), pl_module.model.normalize)
            self._rows += zip(batch.seed.tolist(), rows, strict=True)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the clips of all processes in prompt order."""
        everything = gather(self._rows)
        if not everything:
            return
        fine = [(seed, row) for seed, row in self._rows if not row.error and self._counts(row)]
        for _, row in fine:
            row.clip = replace(row.clip, audio=as_written(row.clip.audio))
        self.clips, self._seeds = [row.clip for _, row in fine], [seed for seed, _ in fine]
        failures = [row for _, row in everything if row.error]
        self.total = sum(not row.error and self._counts(row) for _, row in everything)
        pl_module.log("val/failed", float(len(failures)), batch_size=len(everything))
        wide = pooled([row.spread.plain() for _, row in everything if row.spread])
        if wide is not None:
            said = {"val/spread": wide.rms, "val/spread_distance": wide.distance}
            pl_module.log_dict(said, batch_size=len(everything))
        if trainer.is_global_zero:
            # the noise seed is base + position in the slice, hence the order of prompts
            everything.sort(key=lambda item: item[0])
            self._write(Path(trainer.default_root_dir), pl_module, int(trainer.global_step), everything)
            if failures:
                names = some_names([row.clip.id for row in failures], 5)
                rank_zero_warn(f"{len(failures)} of {len(everything)} clips are not finite and not measured: {names}")

    def _counts(self, row: Rendered) -> bool:
        return self.half is None or half_of(row.clip.id) == self.half

    def _write(self, run: Path, stage: Any, step: int, everything: list[tuple[int, Rendered]]) -> None:
        new, final = run / f".{self.folder}.new", run / self.folder
        shutil.rmtree(new, ignore_errors=True)
        extra = {"step": step, "sampler": stage.sampling, **self.renderer.facts}
        seeds, rows = [seed for seed, _ in everything], [row for _, row in everything]
        self.renderer.write(new, rows, seeds, weights_hash(stage.model), extra)
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
        # what a measure before has embedded by the reward's own CLAP
        own = getattr(reward, "clap_identity", "")
        heard, said = self._mine.get(f"{own} audio"), self._mine.get(f"{own} text")

        def score() -> Tensor:
            prompts = [clip.prompt for clip in self.clips]
            # an empty prompt is no text to a reward
            texts = said if all(map(str.strip, prompts)) else None
            starts = range(0, len(prompts), batch_size)
            scores = []
            for part in (slice(start, start + batch_size) for start in starts):
                audio = self._waves(part)
                if heard is None:
                    scores.append(reward.score(audio, self._rate, prompts[part]))
                else:
                    text = None if texts is None else texts[part]
                    scores.append(reward.score_heard(audio, self._rate, prompts[part], heard[part], text))
            return torch.cat(scores)

        return self._once(f"{reward.identity} reward", score)

    def _waves(self, part: slice = slice(None)) -> Tensor:
        """Clips ``(n, N)`` as the tables' judges hear them."""
        if not self._heard:
            heard = [prepare(clip.audio.numpy(), clip.sample_rate, PROTOCOL) for clip in self.clips]
            self._heard = [torch.from_numpy(wave) for wave in heard]
        return torch.stack(self._heard[part])

    @property
    def _rate(self) -> int:
        return self.renderer.codec.sample_rate

    def _once(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """``make`` for the clips of this process, joined with those of the others; a collective call."""
        if key not in self._cache:
            with torch.no_grad():
                mine = list(make().detach().cpu()) if self.clips else []
            if mine:
                self._mine[key] = torch.stack(mine)
            joined = sorted(gather(list(zip(self._seeds, mine, strict=True))), key=lambda item: item[0])
            self._cache[key] = torch.stack([value for _, value in joined])
        return self._cache[key]


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
