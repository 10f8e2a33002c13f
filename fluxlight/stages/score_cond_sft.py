"""ScoreCondSFT: flow matching under text and score; without a head, the text-only trunk and Row 0."""

from __future__ import annotations

from torch import Tensor

from fluxlight.stages.base import Stage
from fluxlight.types import Batch


class ScoreCondSFT(Stage):
    """Supervised flow matching: the mean of the clips' losses. Settings: see `Stage`.

    Logs ``train/loss``, ``train/lr``.
    """

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean flow-matching loss of a batch."""
        losses = self.predict(batch, self.draws(batch.mean.shape, batch_idx)).error
        return self.report(losses.mean(), len(losses))
