"""Training of an embedded CLAP: matched clips and texts attract, all others of the batch repel (InfoNCE)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional

from fluxlight.encoders.base import TextAudioModel
from fluxlight.encoders.clap_data import ClapBatch
from fluxlight.encoders.retrieval import recall


class ClapTraining(L.LightningModule):
    """Symmetric InfoNCE with a learned temperature (van den Oord et al. 2018; both directions as in CLIP).

    At the end of fit the frozen weights are written into the run folder as ``<name>.safetensors``. Logs
    ``train/loss``, ``train/temperature``, ``val/recall_1``, ``val/recall_10`` (text to audio among 100 clips).

    Args:
        model: the CLAP, untrained (``weights: null``).
        optimizer: its learning rate is the peak of the schedule.
        warmup: updates of linear rise; then the rate falls to 0 along a cosine.
        temperature: start of the learned temperature (0.07 as in CLIP).
        export: file name of the weights, relative to the run folder; empty = ``<name>.safetensors``.
    """

    def __init__(
        self,
        model: TextAudioModel,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        warmup: int = 50,
        temperature: float = 0.07,
        export: str = "",
    ) -> None:
        super().__init__()
        self.model, self.optimizer, self.warmup = model, optimizer, warmup
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.export = export

    def forward(self, batch: ClapBatch) -> tuple[Tensor, Tensor]:
        """Unit embeddings of the clips and of the texts, ``(B, dim)`` each."""
        audio = functional.normalize(self.model.audio_tower(batch.audio), dim=-1)
        return audio, functional.normalize(self.model.text_tower(batch.text, batch.lengths), dim=-1)

    def training_step(self, batch: ClapBatch, batch_idx: int) -> Tensor:
        """InfoNCE of one batch."""
        audio, text = self(batch)
        # 0.01 is CLIP's bound: sharper lets one pair own the gradient
        temperature = self.log_temperature.exp().clamp(min=0.01)
        loss = info_nce(audio @ text.T / temperature)
        if not bool(torch.isfinite(loss)):
            raise ValueError(f"train/loss is {loss.item()} at step {self.global_step}: lower the learning rate")
        self.log_dict({"train/loss": loss, "train/temperature": temperature}, prog_bar=True, batch_size=len(audio))
        return loss

    def validation_step(self, batch: ClapBatch, batch_idx: int) -> None:
        """Recall among one group of clips."""
        audio, text = self(batch)
        similarity = text @ audio.T
        values = {f"val/recall_{k}": recall(similarity, k) for k in (1, 10)}
        self.log_dict(values, prog_bar=True, batch_size=len(audio), on_epoch=True)

    def configure_optimizers(self) -> Any:
        """Linear warm-up, then a cosine to 0 over the whole fit."""
        optimizer = self.optimizer(self.parameters())
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = min(self.warmup, total // 2)

        def rate(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_end(self) -> None:
        """Write the frozen weights with the facts of their training."""
        if not self.trainer.is_global_zero:
            return
        data: Any = getattr(self.trainer, "datamodule", None)
        facts: dict[str, object] = {"updates": self.trainer.global_step}
        facts["temperature"] = round(float(self.log_temperature.exp().clamp(min=0.01)), 4)
        measured = self.trainer.callback_metrics
        facts |= {key: round(float(value), 4) for key, value in measured.items() if key.startswith("val/")}
        for key in ("split", "templates", "clips", "wordings", "batch_size", "seed", "corpus_key"):
            if hasattr(data, key):
                facts[key] = getattr(data, key)
        path = Path(self.trainer.default_root_dir) / (self.export or f"{self.model.name.replace('-', '_')}.safetensors")
        identity = self.model.save(path, facts)
        self.print(f"{identity} written to {path}")


def info_nce(logits: Tensor) -> Tensor:
    """Mean of the two cross-entropies of a matrix ``(B, B)`` whose diagonal matches; a scalar."""
    target = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
