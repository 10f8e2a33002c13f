"""Training of the embedded codec: one LightningModule for the mel autoencoder and the vocoder together."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from fluxlight.codec.data import MARGIN
from fluxlight.codec.embedded import export, load
from fluxlight.codec.mel import DB_PER_NAT
from fluxlight.codec.network import CodecNetwork

log = logging.getLogger(__name__)


class CodecTraining(L.LightningModule):
    """Regression only: log-mel L1, log-magnitude L1, weighted phase vectors; latents kept white and noised.

    Args:
        network: the codec's networks.
        learning_rate: peak rate; warmed up, then lowered to zero as a cosine.
        warmup: updates of warm-up.
        noise: largest spread of the noise added to latents (each crop draws its own, uniformly from 0), in units of
            their standard deviation: the decoder must also serve latents that a flow model made.
        whiteness: weight of the penalty on correlation and on a variance other than one.
        magnitude: weight of the log-magnitude loss.
        phase: weight of the phase loss.
        freeze_encoder: train the decoder only; latents stay those of ``init_from``.
        init_from: exported weights to start from; from PCA when None.
        export_to: file for the weights at the end of training; ``codec.safetensors`` in the run folder when None.
    """

    def __init__(
        self,
        network: CodecNetwork | None = None,
        learning_rate: float = 2e-3,
        warmup: int = 100,
        noise: float = 0.15,
        whiteness: float = 0.5,
        magnitude: float = 1.0,
        phase: float = 1.0,
        freeze_encoder: bool = False,
        init_from: str | None = None,
        export_to: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["network"])
        self.network = network or CodecNetwork()
        if init_from is not None:
            self.network = load(Path(init_from))[0]

    def on_fit_start(self) -> None:
        """Start from PCA unless weights were given or a checkpoint was resumed."""
        if self.hparams["init_from"] is None and self.global_step == 0:
            mels = self.trainer.datamodule.train_mels  # type: ignore[attr-defined]
            sample = mels[:: max(1, len(mels) // 300)][:300]
            self.network.start_from(torch.from_numpy(np.asarray(sample, dtype=np.float32)))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with warm-up and cosine."""
        if self.hparams["freeze_encoder"]:
            for name, value in self.network.autoencoder.named_parameters():
                value.requires_grad_(not name.startswith("encode"))
        free = [value for value in self.network.parameters() if value.requires_grad]
        optimizer = torch.optim.AdamW(free, self.hparams["learning_rate"], betas=(0.9, 0.98), weight_decay=0.01)
        total, warmup = int(self.trainer.estimated_stepping_batches), self.hparams["warmup"]

        def rate(step: int) -> float:
            return min(1.0, (step + 1) / warmup) * 0.5 * (1.0 + math.cos(math.pi * min(step / total, 1.0)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def noised(self, latent: Tensor) -> Tensor:
        """Latents with noise of a spread drawn for each crop; keyed by the update, not by global state."""
        draw = torch.Generator().manual_seed(977 * self.global_step + 13)
        sigma = torch.rand(len(latent), 1, 1, generator=draw) * self.hparams["noise"]
        noise = torch.randn(latent.shape, generator=draw)
        return latent + (sigma * noise).to(latent) * latent.detach().std((0, 1))

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One update on a batch of crops."""
        network, h = self.network, self.hparams
        mel = batch["mel"]
        latent = network.autoencoder.encode(mel)
        decoded, extra = network.autoencoder.decode(self.noised(latent))
        mel_loss = (decoded.float() - mel).abs().mean()

        frames = batch["audio"].unfold(-1, network.spectrum.n_fft, network.spectrum.hop) * network.spectrum.window
        magnitude, vectors, weight = network.vocoder.targets(torch.fft.rfft(frames))
        piece = magnitude.shape[1]
        rows = batch["start"][:, None] + torch.arange(-MARGIN, piece + MARGIN, device=mel.device)
        pick = rows[:, None, :]
        guess, arrows = network.vocoder(
            decoded.gather(2, pick.expand(-1, decoded.shape[1], -1)),
            extra.gather(2, pick.expand(-1, extra.shape[1], -1)),
        )
        guess, arrows = guess[:, MARGIN:-MARGIN].float(), arrows[:, MARGIN:-MARGIN].float()
        importance = network.vocoder.importance
        detail = ((guess - magnitude).abs() * importance).mean()
        with torch.autocast(mel.device.type, enabled=False):
            envelope = network.spectrum.mel_of(guess.clamp(-14.0, 7.0).exp())
            band = (envelope - network.spectrum.mel_of(magnitude.exp())).abs().mean()
        error = (arrows - vectors).square().unflatten(2, (2, 2)).sum(3)
        phase_loss = (error * weight).sum((0, 1, 3)) / weight.sum((0, 1, 3))

        loss = mel_loss + h["magnitude"] * 0.5 * (detail + band) + h["phase"] * 0.25 * phase_loss.sum()
        if not h["freeze_encoder"]:
            loss = loss + h["whiteness"] * whiteness(latent)
        if not torch.isfinite(loss):
            raise ValueError(f"the codec's loss is not finite at update {self.global_step}: lower model.learning_rate")
        self.log_dict(
            {
                "train/mel_db": mel_loss.detach() * DB_PER_NAT,
                "train/magnitude_db": detail.detach() * DB_PER_NAT,
                "train/band_db": band.detach() * DB_PER_NAT,
                "train/phase_time": phase_loss[0].detach(),
                "train/phase_frequency": phase_loss[1].detach(),
            },
            prog_bar=True,
        )
        return loss

    def on_validation_epoch_start(self) -> None:
        """Make the latents exactly white over the training clips before anything is measured or shipped."""
        if not self.hparams["freeze_encoder"] and not self.trainer.sanity_checking:
            self.whiten()

    @torch.no_grad()
    def whiten(self, clips: int = 400) -> None:
        """Fold the statistics of the raw latents into the codec."""
        mels = self.trainer.datamodule.train_mels  # type: ignore[attr-defined]
        every = np.linspace(0, len(mels) - 1, min(clips, len(mels))).astype(int)
        coder = self.network.autoencoder
        coder.eval()
        raw = [coder.encode_raw(torch.from_numpy(mels[i : i + 1].astype(np.float32)).to(self.device)) for i in every]
        rows = torch.cat(raw).reshape(-1, coder.latent_dim)
        coder.set_whitening(rows.mean(0), torch.cov(rows.T))

    def validation_step(self, mel: Tensor, batch_index: int) -> None:
        """Mel error of whole clips through the autoencoder, dB; without and with noise on the latents."""
        latent = self.network.autoencoder.encode(mel)
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(batch_index)).to(latent)
        for name, value in (("val/mel_db", latent), ("val/noised_mel_db", latent + 0.15 * noise)):
            error = (self.network.autoencoder.decode(value)[0] - mel).abs().mean() * DB_PER_NAT
            self.log(name, error, prog_bar=True, batch_size=len(mel))

    def on_fit_end(self) -> None:
        """Write the weights with the facts of the run."""
        if not self.hparams["freeze_encoder"]:
            self.whiten()
        values = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        data = dict(self.trainer.datamodule.hparams)  # type: ignore[attr-defined]
        data["audio"] = None if data.get("audio") is None else "own clips"
        facts = {"updates": self.global_step, "data": data, "measured": values}
        path = Path(self.hparams["export_to"] or Path(self.trainer.default_root_dir) / "codec.safetensors")
        export(self.network, path, facts)
        log.info("codec weights written to %s", path.name)


def whiteness(latent: Tensor) -> Tensor:
    """Penalty: mean squared correlation between channels, and the squared log of their spread (latents (B, L, D))."""
    rows = latent.reshape(-1, latent.shape[-1])
    centred = rows - rows.mean(0)
    spread = centred.square().mean(0).add(1e-8).sqrt()
    correlation = (centred / spread).T @ (centred / spread) / len(rows)
    off = correlation - torch.eye(len(correlation), device=latent.device)
    return off.square().mean() + 0.1 * spread.log().square().mean() + 0.1 * rows.mean(0).square().mean()
