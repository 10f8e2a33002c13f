"""Training of a latent reward: a bag of heads learns what a reward of audio said of clips whose latents are at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from fluxlight.files import write_json
from fluxlight.random import generator
from fluxlight.rewards.latent import LatentRewardNet
from fluxlight.types import Rewarded


def default_optimizer(parameters: Any) -> torch.optim.Optimizer:
    """AdamW with lr 1e-3 and weight decay 0.05 (our choice)."""
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)


class LatentRewardTraining(L.LightningModule):
    """Squared error of every head to the standardised reward, over that head's bootstrap of the captions.

    Logs ``train/loss``, and of held-out captions ``val/correlation`` and ``val/correlation_within``, that of
    deviations from the caption's mean: what advantages are made of. At its end the network goes to
    ``latent_reward.safetensors`` in the run folder, what was measured to ``latent_reward.json``.

    Args:
        width: channels of the network.
        heads: members of the bag.
        optimizer: its learning rate is the peak.
        warmup: updates of linear rise; a cosine to 0 follows.
        dropout: of the heads' inputs.
        seed: of the weights' initialisation and of what is drawn in training.
    """

    def __init__(
        self, width: int = 144, heads: int = 5, optimizer: OptimizerCallable = default_optimizer, warmup: int = 50,
        dropout: float = 0.2, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}: it is a share, 0 up to below 1")
        self.dropout = dropout
        self.width, self.heads, self.optimizer, self.warmup, self.seed = width, heads, optimizer, warmup, seed
        self.net: LatentRewardNet
        self._seen: list[tuple[Tensor, Rewarded]] = []

    def configure_model(self) -> None:
        """Make the network for the latents and texts of the data."""
        if hasattr(self, "net"):
            return
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.net = LatentRewardNet(data.latent_dim, data.text_dim, self.width, self.heads)
        mean, std = data.statistics
        self.net.latent_mean.copy_(mean)
        self.net.latent_std.copy_(std)
        self.net.scale.copy_(torch.tensor(data.reward_scale))

    def training_step(self, batch: Rewarded, batch_idx: int) -> Tensor:
        """Squared error, each head on its own bootstrap."""
        # keyed, not from the global stream: a run that goes on ends in the same weights
        source = generator(self.seed, self.global_step)
        noise = torch.randn(batch.latents.shape, generator=source).to(batch.latents)
        latents = batch.latents if batch.std is None else batch.latents + batch.std * noise
        goal = (batch.reward - self.net.scale[0]) / self.net.scale[1]
        keep = torch.rand(len(goal), self.net.inputs, generator=source) >= self.dropout
        error = (self.net(latents, batch.text_c, keep.to(goal) / (1 - self.dropout)) - goal).square()
        loss = (batch.weight.T * error).sum() / batch.weight.sum().clamp_min(1)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(goal))
        return loss

    def validation_step(self, batch: Rewarded, batch_idx: int) -> None:
        """Keep what the heads say."""
        self._seen.append((self.net.rewards(batch.latents, batch.text_c).cpu(), batch))

    def on_validation_epoch_end(self) -> None:
        """Measure."""
        for name, value in self.measured().items():
            self.log(f"val/{name}", value)
        self._seen = []

    def configure_optimizers(self) -> Any:
        """Linear warm-up, then a cosine to 0 over the whole fit."""
        optimizer = self.optimizer(self.net.parameters())
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = min(self.warmup, total // 2)

        def rate(step: int) -> float:
            fall = np.pi * min(1.0, max(0, step - warmup) / max(1, total - warmup))
            return float(min(1.0, (step + 1) / max(1, warmup)) * 0.5 * (1 + np.cos(fall)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def measured(self) -> dict[str, float]:
        """Of the clips seen in validation: see `agreement`; of sampled clips alone with the ending ``_sampled``."""
        if not self._seen:
            return {}
        said = torch.cat([heads for heads, _ in self._seen], dim=1).double().numpy()
        goal, caption, sampled = (
            np.concatenate([getattr(batch, name).cpu().numpy() for _, batch in self._seen])
            for name in ("reward", "caption", "sampled")
        )
        found = agreement(said, goal, caption)
        if sampled.any() and not sampled.all():
            part = agreement(said[:, sampled], goal[sampled], caption[sampled])
            found |= {f"{name}_sampled": value for name, value in part.items()}
        return found

    @torch.no_grad()
    def on_fit_end(self) -> None:
        """Measure the last weights on held-out captions and write."""
        if not self.trainer.is_global_zero:
            return
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.net.eval().cpu()
        self._seen = [(self.net.rewards(batch.latents, batch.text_c), batch) for batch in data.val_dataloader()]
        facts = {**self.measured(), **data.facts, "updates": self.trainer.global_step}
        self._seen = []
        folder = Path(self.trainer.default_root_dir)
        identity = self.net.save(folder, facts, data.identities)
        write_json(folder / "latent_reward.json", {"identity": identity, **facts})
        within = facts.get("correlation_within", float("nan"))
        self.print(f"{identity}: correlation {facts['correlation']:.3f}, within a caption {within:.3f}: {folder}")


def agreement(said: np.ndarray, goal: np.ndarray, caption: np.ndarray) -> dict[str, float]:
    """How well a bag agrees with the reward it was learned from.

    Args:
        said: rewards of its heads ``(H, N)``.
        goal: the rewards ``(N,)``.
        caption: number of each clip's caption ``(N,)``.

    Returns:
        ``clips``; ``correlation``; where captions have several clips ``correlation_within``, of deviations from the
        caption's mean, and ``best_of``, the share of the gain of the truly best clip of a caption over its mean that
        the clip chosen by the bag has; ``trust``, the correlation of the heads' spread with the size of the error.
    """
    mean, error = said.mean(0), np.abs(said.mean(0) - goal)
    found = {"clips": float(len(goal)), "correlation": pearson(mean, goal), "trust": pearson(said.std(0), error)}
    _, place, count = np.unique(caption, return_inverse=True, return_counts=True)
    several = count[place] > 1
    if not several.any():
        return found
    a, b = (values - (np.bincount(place, values) / count)[place] for values in (mean, goal))
    found["correlation_within"] = pearson(a[several], b[several])
    groups = [np.flatnonzero(place == group) for group in np.flatnonzero(count > 1)]
    possible = np.mean([b[group].max() for group in groups])
    found["best_of"] = float(np.mean([b[group][a[group].argmax()] for group in groups]) / max(possible, 1e-12))
    return found


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two series; 0 where one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else 0.0
