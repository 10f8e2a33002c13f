"""Stage: what every stage shares: model, initialisation, draws, optimiser, rendering. A stage adds its loss."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from fluxlight import bundle, flow
from fluxlight.backbone.base import Backbone
from fluxlight.data import course
from fluxlight.data.sft import SFTData
from fluxlight.data.store import LatentStore
from fluxlight.heads.base import Ports, ScoreHead
from fluxlight.model import FluxModel
from fluxlight.random import words
from fluxlight.sample import Sampler
from fluxlight.stages import origin
from fluxlight.stages.draws import Draws, draw
from fluxlight.stages.optimizer import freeze_but, published_adamw
from fluxlight.stages.schedule import Schedule
from fluxlight.types import Batch, Condition, PromptBatch

ORIGIN, CUT = "origin", "batches_per_epoch of draws"
"""Where a checkpoint keeps its origin, and in it the epochs that its draws are keyed by."""


class Stage(L.LightningModule):
    """A training stage around a `FluxModel`.

    Args:
        backbone: velocity network.
        head: score head, made from the backbone's ports; null is the text-only Row 0.
        optimizer: made from the trainable parameters; by default as published (FACTS section 3).
        schedule: of the learning rate.
        text_drop: probability of the empty text, tokens and CLAP together (FACTS section 7).
        score_drop: probability of the null score, independent of the text (FACTS section 2).
        seed: of all training draws.
        stream: name of the draws: stages of one seed and one stream see equal noise, times and coins at equal batches.
        init_from: bundle, or published .pth file, whose weights are the start; null starts anew with the statistics of
            the store. What weights lack (published ones have no negative text) is taken from the store.
        weights: which of its weights, "raw" (published) or "ema".
        skip: name prefixes of the bundle, or of the published file, that are not taken.
        allow_new: name prefixes of this model that the bundle need not have.
        train_only: name prefixes of the parameters that are trained, the others are frozen; null or none: all.
        head_prefix: what stands before the names of the score head in a published file; null where it has none.
        sampler: how slice and candidates are rendered.
        score_quantile: ask for this quantile of the training scores instead of ``sampler.score``; null: as given.
        negative_score_quantile: likewise for ``sampler.negative_score``.
        render_every: updates between two renderings of the slice in fit; 0 renders once, after the last update.

    Attributes:
        kept: the update whose weights the model has, once a guard has ended the run before its time; else None.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Callable[[Ports], ScoreHead] | None = None,
        optimizer: OptimizerCallable = published_adamw,
        schedule: Schedule = Schedule(),  # noqa: B008 (frozen)
        text_drop: float = 0.1,
        score_drop: float = 0.1,
        seed: int = 0,
        init_from: str | None = None,
        weights: bundle.Which = "raw",
        skip: list[str] | None = None,
        allow_new: list[str] | None = None,
        head_prefix: str | None = None,
        sampler: Sampler = Sampler(),  # noqa: B008 (frozen)
        score_quantile: float | None = None,
        negative_score_quantile: float | None = None,
        render_every: int = 0,
        stream: str = "",
        train_only: list[str] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("text_drop", text_drop), ("score_drop", score_drop)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}: it is a probability, 0 to 1")
        self.model = FluxModel(backbone, head)
        self.optimizer, self.schedule = optimizer, schedule
        self.text_drop, self.score_drop, self.seed, self.stream = text_drop, score_drop, seed, stream
        self.sampler, self.render_every = sampler, render_every
        self.score_quantile, self.negative_score_quantile = score_quantile, negative_score_quantile
        self.init_from, self.weights = init_from, weights
        self.kept: int | None = None
        self._cut, self._origin = 0, origin.Origin()
        self._seen: deque[Batch] = deque(maxlen=2)  # of one update at most winner and loser
        if init_from:
            bundle.init_from(self.model, init_from, skip or (), allow_new or (), weights, head_prefix)
        if train_only:
            freeze_but(self.model, train_only)

    # -- start ---------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Fit the model to its store before a checkpoint, if any, is loaded."""
        self.adopt_store()
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, SFTData):
            course.check(self.trainer, data.batches_per_epoch)
            self._check_cadence(data)
            if data.slice is not None and self.trainer.enable_validation:
                data.slice.require_finite_texts()
            self._cut = data.batches_per_epoch

    def adopt_store(self) -> None:
        """Check sizes against the data's store and, for a model that starts anew, take over what the store knows."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, SFTData):
            self._adopt(data.store)

    def _adopt(self, store: LatentStore) -> None:
        backbone = self.model.backbone
        sizes = [
            ("text_dim", "text_dim", backbone.text_dim),
            ("text_c_dim", "text_c_dim", backbone.text_c_dim),
            ("text_len", "text_seq_len", backbone.text_seq_len),
        ]
        if store.mean is not None:
            sizes += [
                ("latent_dim", "latent_dim", backbone.latent_dim),
                ("latent_len", "latent_seq_len", backbone.latent_seq_len),
            ]
        for key, setting, size in sizes:
            if store.meta[key] != size:
                raise ValueError(
                    f"model.backbone.{setting} is {size}, store {store.folder} has {store.meta[key]}: make them equal"
                )
        if self.init_from is None:
            if store.mean is not None:
                self.model.set_latent_statistics(*store.statistics)
            self.model.set_empty(*store.empty)
        if not bool(self.model.negative_stored):
            # a published checkpoint as a start has none
            self.model.set_negative(*store.negative)
        if not bool(backbone.empty_string_feat_c.any()):
            # nor have its older files the global embedding of the empty text, which is never zero
            self.model.set_empty(backbone.empty_string_feat, store.empty[1])
        if self.score_quantile is not None and self.model.head is not None:
            self.sampler = replace(self.sampler, score=store.score_quantile(self.score_quantile))
        if self.negative_score_quantile is not None and self.model.head is not None:
            low = store.score_quantile(self.negative_score_quantile)
            self.sampler = replace(self.sampler, negative_score=low)

    def _check_cadence(self, data: SFTData) -> None:
        """Let the slice be rendered at checkpoints, or between them at equal distances."""
        accumulate, epoch = self.trainer.accumulate_grad_batches, data.batches_per_epoch
        batches = self.render_every * accumulate
        if batches % epoch and epoch % batches:
            raise ValueError(
                f"model.render_every is {self.render_every} updates of {accumulate} batches, "
                f"data.batches_per_epoch {epoch}: one must divide the other"
            )

    # -- going on ------------------------------------------------------------------------------------------------

    @property
    def origin(self) -> origin.Origin:
        """What a checkpoint of this run is of, by the names of settings."""
        if not self._origin:
            loss = getattr(self, "loss", None)
            said = {"model": type(self).__name__, "model.seed": self.seed}
            said["model.stream"] = self.stream or origin.NAMELESS
            said |= {} if loss is None else {"model.loss": type(loss).__name__}
            said |= origin.of_model(self.model) | origin.of_start(self.init_from, self.weights)
            said["model.optimizer"] = type(self.optimizer(origin.trainable(self.model))).__name__
            data = getattr(self.trainer, "datamodule", None)
            self._origin = said | (origin.of_data(data, self.trainer) if isinstance(data, SFTData) else {})
        return {**self._origin, "averaging in trainer.callbacks": origin.averaging(self.trainer)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the origin, and counters that are functions of the updates done. A subclass calls it too."""
        checkpoint[ORIGIN] = {**self.origin, CUT: self._cut}
        self._put(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from where the updates done say, as the same run. A subclass calls it too."""
        if self.trainer.state.fn != "fit":
            return
        said = dict(checkpoint.get(ORIGIN, {}))
        # the draws are keyed by the epochs that the run began with, whatever an epoch is now
        self._cut = said.pop(CUT, 0) or self._cut
        origin.refuse_another(checkpoint, said, self.origin, str(self.trainer.ckpt_path))
        if type(self).configure_optimizers is Stage.configure_optimizers:
            fresh = self.optimizer(origin.trainable(self.model))
            factor = self.schedule.factor(checkpoint["global_step"], self.updates)
            if (changes := origin.renew_optimizer(checkpoint, fresh, factor)) and self.trainer.is_global_zero:
                print(f"going on with another optimizer: {', '.join(changes)}", file=sys.stderr)
        origin.forget_clock(checkpoint)
        self._put(checkpoint)

    def _put(self, checkpoint: dict[str, Any]) -> None:
        data, accumulate = getattr(self.trainer, "datamodule", None), self.trainer.accumulate_grad_batches
        if isinstance(data, SFTData) and "loops" in checkpoint:
            length = course.epoch_length(self.trainer, data.batches_per_epoch)
            course.put(checkpoint["loops"], checkpoint["global_step"] * accumulate, length, accumulate)

    # -- training ------------------------------------------------------------------------------------------------

    def draws(self, shape: torch.Size, batch_idx: int) -> Draws:
        """The draws of batch ``batch_idx``: a function of seed, stream, updates done and rows' places alone.

        All processes draw for the global batch and keep the part of their rows, so two processes of four clips draw
        what one of eight does.
        """
        accumulate = self.trainer.accumulate_grad_batches
        place = self.global_step * accumulate + batch_idx % accumulate
        key = (self.seed, *divmod(place, self._cut or self.trainer.num_training_batches), 0, *words(self.stream))
        return draw(shape, key, self.global_rank, self.trainer.world_size).to(self.device)

    def predict(self, batch: Batch, draws: Draws, model: FluxModel | None = None) -> flow.Prediction:
        """What the model says of the clips of ``batch`` under ``draws``; ``model`` replaces the trained one."""
        model = model or self.model
        self._seen.append(batch)
        latent = batch.mean if batch.std is None else batch.mean + batch.std * draws.posterior
        x1 = model.normalize(latent)
        condition = model.drop_text(Condition(batch.text, batch.text_c), draws.text_coin >= self.text_drop)
        score, keep = batch.score, draws.score_coin >= self.score_drop
        if score is None and model.head is not None:
            raise ValueError(
                "the training data has no scores but the model has a head: encode with a reward, or set head to null"
            )
        if model.head is None:
            score, keep = None, None  # type: ignore[assignment]
        velocity = model.velocity(flow.interpolate(x1, draws.noise, draws.t), draws.t, condition, score, keep)
        return flow.Prediction(velocity, flow.target(x1, draws.noise))

    def report(self, loss: Tensor, batch_size: int, **more: Tensor) -> Tensor:
        """Log ``train/loss`` and what else is given; stop on a loss that is not finite. Returns the loss."""
        if not bool(torch.isfinite(loss)):
            raise ValueError(f"train/loss is {loss.item()} at update {self.global_step}: {self._why_not_finite()}")
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("train/loss", loss, prog_bar=True, batch_size=batch_size)
        self.log_dict({f"train/{k}": v for k, v in more.items()} | {"train/lr": rate}, batch_size=batch_size)
        return loss

    def _why_not_finite(self) -> str:
        """What to do about a loss that is not finite: look at the clip that is not, or at the rate."""
        data = getattr(self.trainer, "datamodule", None)
        for batch in self._seen:
            for row, number in enumerate(batch.index.tolist()):
                parts = (("latent", batch.mean), ("latent", batch.std), ("text", batch.text), ("text", batch.text_c))
                bad = [name for name, part in parts if part is not None and not bool(torch.isfinite(part[row]).all())]
                if bad and isinstance(data, SFTData):
                    return f"the {bad[0]} of {data.name_of(number)} is not finite: make it anew"
        kept = Path(self.trainer.default_root_dir) / "last.ckpt"
        return "lower the learning rate" + (f"; {kept} is kept" if kept.is_file() else "; there is no checkpoint yet")

    def configure_optimizers(self) -> Any:
        """The optimiser over trainable parameters, its rate scheduled per update."""
        optimizer = self.optimizer(origin.trainable(self.model))
        total = self.updates
        scheduler = LambdaLR(optimizer, lambda update: self.schedule.factor(update, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @property
    def updates(self) -> int:
        """Updates of the whole run."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, SFTData):
            # Lightning's own estimate would open the loader before a checkpoint says where
            return course.updates(self.trainer, course.epoch_length(self.trainer, data.batches_per_epoch))
        return int(self.trainer.estimated_stepping_batches)

    # -- rendering -----------------------------------------------------------------------------------------------

    @property
    def render_due(self) -> bool:
        """True when this validation renders the slice."""
        trainer = self.trainer
        if trainer.state.fn != "fit":
            return True
        return course.is_last(trainer) or (self.render_every > 0 and trainer.global_step % self.render_every == 0)

    @property
    def sampling(self) -> dict[str, Any]:
        """Settings of rendering as plain values, for the rows that carry them."""
        if self.model.head is None:
            return replace(self.sampler, negative_score=None).plain() | {"score": None}
        return self.sampler.plain()

    def validation_step(self, batch: PromptBatch, batch_idx: int) -> Tensor | None:
        """Latents ``(B, L, D)`` of prompts, codec units; None when no rendering is due, or for no prompt."""
        return self.sampler.generate(self.model, batch) if self.render_due and batch.id else None

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> Tensor | None:
        """Latents ``(B, L, D)`` of candidates, codec units; None for no prompt."""
        return self.sampler.generate(self.model, batch) if batch.id else None
