"""Training of a TuneJury head on preference pairs (RankNet), and of the embedded rewards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from fluxlight.files import write_json
from fluxlight.rewards.calibration import (
    Affine,
    anchor_calibration,
    expected_calibration_error,
    pair_accuracy,
    ranknet_loss,
)
from fluxlight.rewards.embedded import EmbeddedReward
from fluxlight.rewards.known_order import known_order, score_items
from fluxlight.rewards.pairs import FeaturePairs
from fluxlight.rewards.preferences import Preferences
from fluxlight.rewards.tunejury import TuneJury


def published_optimizer(parameters: Any) -> torch.optim.Optimizer:
    """AdamW with TuneJury's lr 1e-4 and weight decay 1e-3 (FACTS 5)."""
    return torch.optim.AdamW(parameters, lr=1e-4, weight_decay=1e-3)


class TuneJuryRanker(L.LightningModule):
    """RankNet: binary cross-entropy of s(a) - s(b) to 1, 0 or 0.5 for a tie.

    Logs ``train/loss``, ``val/loss``, ``val/accuracy`` (without ties) and ``val/ece`` (10 equal bins of |margin|).
    Published: batch 32, patience 30 epochs on the validation loss, 2,048 inputs; accuracy 0.7086, ECE 0.0339.

    At its end the head goes to ``tunejury.safetensors`` in the run folder, under the published names: the weights of
    the best validation loss where a `ModelCheckpoint` kept them, else the last. What was measured on the validation
    pairs goes to ``tunejury.json`` beside it, with the bias of every system where ``anchor`` is given.

    Args:
        head: the MLP, fresh or from a file.
        optimizer: the published one by default.
        anchor: the system whose bias is 0 in anchor calibration (FACTS section 5); null: no calibration.
    """

    def __init__(
        self, head: TuneJury, optimizer: OptimizerCallable = published_optimizer, anchor: str | None = None
    ) -> None:
        super().__init__()
        self.head, self.optimizer, self.anchor = head, optimizer, anchor
        self._margins: list[Tensor] = []
        self._targets: list[Tensor] = []

    def margin(self, batch: FeaturePairs) -> Tensor:
        """s(a) - s(b) ``(B,)``; each side passes BatchNorm on its own, as published."""
        return self.head(batch.a) - self.head(batch.b)

    def training_step(self, batch: FeaturePairs, batch_idx: int) -> Tensor:
        """RankNet loss of one batch of pairs."""
        loss = ranknet_loss(self.margin(batch), batch.target)
        if not bool(torch.isfinite(loss)):
            raise ValueError(f"train/loss is {loss.item()} at step {self.global_step}: lower the learning rate")
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.target))
        return loss

    def validation_step(self, batch: FeaturePairs, batch_idx: int) -> None:
        """Gather margins: accuracy and ECE need all pairs at once."""
        margin = self.margin(batch)
        self.log("val/loss", ranknet_loss(margin, batch.target), batch_size=len(margin))
        self._margins.append(margin.cpu())
        self._targets.append(batch.target.cpu())

    def on_validation_epoch_end(self) -> None:
        """Accuracy and calibration error over all validation pairs."""
        margin, target = torch.cat(self._margins), torch.cat(self._targets)
        self._margins.clear()
        self._targets.clear()
        # a graded target is a known order: above one half, a is the better one
        order = 0.5 * (1 + (target - 0.5).sign())
        values = {
            "val/accuracy": pair_accuracy(margin, order)[0],
            "val/ece": expected_calibration_error(margin, target),
        }
        self.log_dict(values, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser over the head, no schedule, as published."""
        return self.optimizer(self.head.parameters())

    def on_fit_start(self) -> None:
        """Refuse an anchor that the pairs do not know before anything is trained."""
        known = self._preferences()
        if self.anchor is not None and self.anchor not in {*known.system_a, *known.system_b}:
            raise ValueError(f"anchor {self.anchor!r} made none of the validation clips: name one of their systems")

    def on_fit_end(self) -> None:
        """Keep the best head, measure it, write both files."""
        if not self.trainer.is_global_zero:
            return
        keeper: Any = self.trainer.checkpoint_callback
        if keeper is not None and keeper.best_model_path:
            best = torch.load(keeper.best_model_path, map_location="cpu", weights_only=True)
            self.load_state_dict(best["state_dict"])
        folder, known = Path(self.trainer.default_root_dir), self._preferences()
        head = self.head.cpu().eval()
        with torch.no_grad():
            said = [head(side) for side in (known.pairs.a, known.pairs.b)]
        accuracy, count = pair_accuracy(said[0] - said[1], known.pairs.target)
        ece = expected_calibration_error(said[0] - said[1], known.pairs.target)
        facts: dict[str, Any] = {"accuracy": accuracy, "pairs_without_ties": count, "ece": ece}
        if self.anchor is not None:
            a, b = said
            facts["bias"] = anchor_calibration(a, b, known.system_a, known.system_b, known.pairs.target, self.anchor)
        head.save(folder / "tunejury.safetensors")
        write_json(folder / "tunejury.json", facts)
        self.print(f"accuracy {accuracy:.4f} of {count} pairs, ECE {ece:.4f}: {folder / 'tunejury.safetensors'}")

    def _preferences(self) -> Preferences:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        return data.val


class EmbeddedRewardTraining(TuneJuryRanker):
    """Trains the head of an embedded reward, then calibrates and writes it into the run folder.

    Unlike the published recipe: a cosine to 0 after ``warmup`` updates, and a start at which half of the first
    layer's units see audio + text or audio - text, whose rectified size is a function of their cosine.

    Args:
        model: the untrained reward (``weights: null``).
        optimizer: its learning rate is the peak.
        warmup: updates of linear rise.
        export: file name in the run folder; empty = ``<name>.safetensors``.
    """

    def __init__(
        self,
        model: EmbeddedReward,
        optimizer: OptimizerCallable = published_optimizer,
        warmup: int = 50,
        export: str = "",
    ) -> None:
        super().__init__(model.head, optimizer)
        self.model, self.warmup, self.export = model, warmup, export
        tie_audio_and_text(model.head)

    def on_fit_start(self) -> None:
        """Nothing to check: the pairs are made, not read."""

    def configure_optimizers(self) -> Any:
        """Linear warm-up, then a cosine to 0 over the whole fit."""
        optimizer = self.optimizer(self.head.parameters())
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = min(self.warmup, total // 2)

        def rate(step: int) -> float:
            rise = (step + 1) / max(1, warmup)
            fall = torch.pi * max(0, step - warmup) / max(1, total - warmup)
            return min(1.0, rise) * 0.5 * (1 + float(torch.cos(torch.tensor(min(fall, torch.pi)))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_end(self) -> None:
        """Calibrate, measure against the known order, write."""
        if not self.trainer.is_global_zero:
            return
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.model.eval()
        facts = calibrate(self.model, data)
        facts["updates"] = self.trainer.global_step
        path = Path(self.trainer.default_root_dir) / (self.export or f"{self.model.name.replace('-', '_')}.safetensors")
        identity = self.model.save(path, facts)
        self.print(f"{identity} written to {path}")


def calibrate(reward: EmbeddedReward, data: Any) -> dict[str, Any]:
    """Set the affine scale on the calibration clips and measure; the facts for the file's header."""
    reward.set_affine(Affine(1.0, 0.0))
    raw = score_items(reward, data.calibration_items)
    reward.set_affine(Affine.fit(raw))
    facts: dict[str, Any] = {
        "accuracy": known_order(reward, data.val_items, data.seed),
        "held_out": {"kinds": list(data.held_out), "levels_below": data.mildest},
        "calibration": {"split": data.calibration_split, "clips": len(raw), "mean": 0.5, "sd": 1.2},
    }
    codec = getattr(data, "codec", None)
    facts["codec"] = {"identity": codec.identity if codec is not None else None, "clips": data.coded}
    for key in ("split", "templates", "clips", "varied", "wordings", "batch_size", "seed"):
        facts[key] = getattr(data, key)
    return facts


@torch.no_grad()
def tie_audio_and_text(head: TuneJury) -> None:
    """Let half of the first layer's units start with equal (a quarter) or opposite weights on CLAP audio and text."""
    widths = dict(head.inputs)
    wide = widths["clap_audio"]
    if wide != widths["clap_text"]:
        raise ValueError(f"CLAP audio has {wide} dimensions and text {widths['clap_text']}: they must agree")
    layer = head.net[0]
    assert isinstance(layer, torch.nn.Linear)
    weight, quarter = layer.weight, layer.out_features // 4
    weight[:quarter, -wide:] = weight[:quarter, :wide]
    weight[quarter : 2 * quarter, -wide:] = -weight[quarter : 2 * quarter, :wide]
