"""ExpertIter: flow matching on the training mixture with the model's own best clips in it (FACTS section 3)."""

from __future__ import annotations

from torch import Tensor

from fluxlight.data.mixture import MixtureData
from fluxlight.stages.base import Stage
from fluxlight.types import Batch


class ExpertIter(Stage):
    """The loss of `ScoreCondSFT` on `MixtureData`; experts and real clips are logged apart. Settings: see `Stage`.

    The published run has two parts, the mixture and then the experts alone at a tenth of the rate: two configs,
    ``expert_iter`` and ``expert_polish``, of this one stage.

    Logs ``train/loss``, ``train/loss_experts``, ``train/loss_corpus`` (where a batch holds such),
    ``train/lr``.
    """

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean flow-matching loss of a batch."""
        losses = self.predict(batch, self.draws(batch.mean.shape, batch_idx)).error
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        expert = batch.index >= len(data.store) if isinstance(data, MixtureData) else batch.index < 0
        apart = {"loss_experts": losses[expert], "loss_corpus": losses[~expert]}
        return self.report(losses.mean(), len(losses), **{k: v.detach().mean() for k, v in apart.items() if len(v)})
