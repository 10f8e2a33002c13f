"""Preference: training on winner and loser of one prompt against a frozen copy of the starting weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fluxlight.data.pairs import PairData, Pairs
from fluxlight.flow import Prediction
from fluxlight.losses.base import PreferenceLoss, Sharpness
from fluxlight.losses.crpo import CRPOLoss
from fluxlight.model import FluxModel
from fluxlight.stages.anchored import KEY, Anchored
from fluxlight.stages.compare import differences
from fluxlight.stages.draws import Draws
from fluxlight.types import Batch, PairBatch

SPREAD = "spread of the reference"
"""Where a checkpoint keeps what a loss was adapted to."""
SEEN = 64
"""Pairs that a loss is adapted to at most (our choice)."""


class Preference(Anchored):
    """Any preference loss on pairs. Settings below; the others are `Stage`'s.

    Winner and loser share noise, time and coins, and so do policy and reference.

    Logs ``train/loss``, ``train/error`` = (L_w + L_l) / 2, ``train/error_reference``, ``train/error_winner``,
    ``train/error_loser``, ``train/lr`` and what the loss logs: ``train/preference`` (ln 2 at the start of a DPO),
    ``train/margin``, ``train/accuracy`` (implicit), ``train/weight`` (share of the gradient that is left) and
    ``train/dead``. With ``data.held_out``, ``val/accuracy`` and ``val/margin`` of pairs that are not trained on, at
    every validation and at fixed noises and times.

    Args:
        loss: over the predictions of policy and reference (`fluxlight.losses`). Where a setting of it is "auto", it is
            adapted to the first `SEEN` training pairs before the first update; the checkpoint keeps to what.
        pair_score: score that conditions both clips of a pair: the "winner"'s reward, or "own", each its own.
            Upstream's is not public; one condition for both is our choice, as a preference compares
            under equal conditions.
        reference_decay: the reference stays where it was at 1 (published), below it follows the policy:
            decay x reference + (1 - decay) x policy after every update.
        **settings: of `Stage`.
    """

    def __init__(
        self,
        loss: PreferenceLoss = CRPOLoss(),  # noqa: B008
        pair_score: Literal["winner", "own"] = "winner",
        reference_decay: float = 1.0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if not 0 <= reference_decay <= 1:
            raise ValueError(f"reference_decay is {reference_decay}: it is a share, 0 to 1")
        self.loss, self.pair_score, self.reference_decay = loss, pair_score, reference_decay
        self._kept_out: tuple[Pairs, list[int]] | None = None

    # -- start ---------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Forget what the loss was adapted to in another run."""
        super().setup(stage)
        self.loss.spread = None

    def on_fit_start(self) -> None:
        """Take the pairs that are kept out, and adapt the loss where that is asked for and not yet done."""
        super().on_fit_start()
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, PairData):
            return
        pairs, seen = data.rows(), data.table()
        if self.loss.paired and not pairs.paired:
            raise ValueError(
                f"{data.pairs} sets clips of different prompts against each other and {type(self.loss).__name__} "
                "compares within a prompt: select pairs of one prompt, or set model.loss to KTOLoss"
            )
        numbers = np.setdiff1d(np.arange(len(pairs)), seen).tolist()
        # processes share them
        self._kept_out = pairs, numbers[self.global_rank :: self.trainer.world_size]
        if self.loss.auto and self.loss.spread is None:
            found = self._differences(self.reference.model, pairs, seen[:SEEN].tolist(), "spread")
            # one number for all processes, whatever their devices round
            self.loss.adapt(self.trainer.strategy.broadcast(float(found.std())))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep a reference that has moved, and what the loss was adapted to."""
        super().on_save_checkpoint(checkpoint)
        if self.reference_decay < 1:
            checkpoint[KEY] = self.reference.state()
        if self.loss.spread is not None:
            checkpoint[SPREAD] = self.loss.spread

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the loss of the run that goes on."""
        super().on_load_checkpoint(checkpoint)
        if self.loss.auto and SPREAD in checkpoint:
            self.loss.adapt(checkpoint[SPREAD])

    # -- training ------------------------------------------------------------------------------------------------

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Preference loss of a batch of pairs."""
        draws = self.draws(batch.winner.mean.shape, batch_idx)
        pair = self._conditioned(batch)
        policy = [self.predict(clip, draws) for clip in pair]
        with torch.no_grad():
            frozen = [self.predict(clip, draws, self.reference.model) for clip in pair]
        loss, logs = self.loss(*policy, *frozen)
        winner, other = (said.error.detach() for said in policy)
        return self.report(
            loss, len(winner), **logs, error=0.5 * (winner + other).mean(),
            error_reference=0.5 * (frozen[0].error + frozen[1].error).mean(),
            error_winner=winner.mean(), error_loser=other.mean(),
        )  # fmt: skip

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """An update; a reference that follows does so before anything is kept of it."""
        super().optimizer_step(*args, **kwargs)
        if self.reference_decay < 1:
            self.reference.follow(self.model, self.reference_decay)

    def on_validation_epoch_end(self) -> None:
        """Log how the pairs that are kept out are told apart."""
        if self.trainer.state.fn != "fit" or self._kept_out is None:
            return
        mine = self._differences(self.model, *self._kept_out, "held out")
        margins = mine - self._differences(self.reference.model, *self._kept_out, "held out")
        sums = torch.stack([margins.sum(), (margins > 0).sum(), torch.ones_like(margins).sum()])
        total, right, count = self.trainer.strategy.reduce(sums, reduce_op="sum")
        if count > 0:
            said = {"val/margin": total / count, "val/accuracy": right / count}
            self.log_dict(said, sync_dist=self.trainer.world_size > 1)

    def _differences(self, model: FluxModel, pairs: Pairs, numbers: list[int], name: str) -> Tensor:
        def predict(batch: Batch, draws: Draws) -> Prediction:
            return self.predict(batch, draws, model)

        return differences(predict, self._conditioned, pairs, numbers, (self.seed,), name, self.device)

    def _conditioned(self, batch: PairBatch) -> tuple[Batch, Batch]:
        """Winner and loser under the scores they are compared at."""
        own = self.pair_score == "own" or not self.loss.paired
        return batch.winner, batch.loser if own else replace(batch.loser, score=batch.winner.score)


class CRPO(Preference):
    """`Preference` with the published loss (FACTS section 10, arXiv 2412.21037). Other settings: see there.

    Args:
        beta: sharpness of the preference (published 2000), or "auto" (see `DPOLoss`).
        lambda_fm: weight of the winner's flow-matching loss (published 1.0).
        pair_score: see `Preference`.
        **settings: of `Preference` and `Stage`.
    """

    def __init__(
        self,
        beta: Sharpness = 2000.0,
        lambda_fm: float = 1.0,
        pair_score: Literal["winner", "own"] = "winner",
        **settings: Any,
    ) -> None:
        super().__init__(CRPOLoss(beta, lambda_fm), pair_score, **settings)
