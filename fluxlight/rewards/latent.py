"""LatentReward: a small network that says of latents what a reward of audio would say, without decoding them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fluxlight.rewards.rollout import RolloutReward
from fluxlight.types import PromptBatch
from fluxlight.weights.frozen import read_frozen, write_frozen

NAME, VERSION, FILE = "latent-reward", 1, "latent_reward.safetensors"
RECIPE = "fluxlight fit --config configs/rewards/latent.yaml"


class Block(nn.Module):
    """A residual pair of convolutions over time, scaled and shifted by the text.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.film = nn.GroupNorm(8, width), nn.Linear(width, 2 * width)
        self.first, self.second = nn.Conv1d(width, width, 5, padding=2), nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """``(B, W, L)`` under text ``(B, W)``."""
        scale, shift = self.film(text)[:, :, None].chunk(2, dim=1)
        hidden = self.norm(x) * (1 + scale) + shift
        return x + self.second(nn.functional.gelu(self.first(nn.functional.gelu(hidden))))


class LatentRewardNet(nn.Module):
    """Latents and global text to ``heads`` rewards on one shared network; 1.6 M parameters at the default size.

    Args:
        latent_dim: channels of a latent.
        text_dim: width of the global text embedding.
        width: channels of the network (a multiple of 8; our choice, as all sizes here).
        heads: members of the bag.
    """

    latent_mean: Tensor
    latent_std: Tensor
    scale: Tensor

    def __init__(self, latent_dim: int, text_dim: int, width: int = 144, heads: int = 5) -> None:
        super().__init__()
        self.sizes = {"latent_dim": latent_dim, "text_dim": text_dim, "width": width, "heads": heads}
        self.register_buffer("latent_mean", torch.zeros(latent_dim))
        self.register_buffer("latent_std", torch.ones(latent_dim))
        # mean and standard deviation of the rewards it learned
        self.register_buffer("scale", torch.tensor([0.0, 1.0]))
        self.text = nn.Sequential(nn.Linear(text_dim, width), nn.GELU())
        self.stem = nn.Conv1d(latent_dim, width, 4, stride=2, padding=1)
        self.fine = nn.ModuleList(Block(width) for _ in range(2))
        self.down = nn.Conv1d(width, width, 4, stride=2, padding=1)
        self.coarse = nn.ModuleList(Block(width) for _ in range(2))
        self.meet = nn.Linear(3 * width, width)
        self.inputs, hidden = 5 * width, width // 2
        self.enter = nn.Parameter(torch.randn(heads, self.inputs, hidden) * self.inputs**-0.5)
        self.bias = nn.Parameter(torch.zeros(heads, 1, hidden))
        self.leave = nn.Parameter(torch.randn(heads, hidden, 1) * hidden**-0.5)

    def forward(self, latents: Tensor, text_c: Tensor, keep: Tensor | None = None) -> Tensor:
        """Standardised rewards ``(heads, B)`` of latents ``(B, L, D)``, codec units, for texts ``(B, C)``.

        ``keep`` ``(B, inputs)`` scales the heads' inputs: dropout, in training.
        """
        x = self.stem(((latents - self.latent_mean) / self.latent_std).transpose(1, 2))
        text = self.text(nn.functional.normalize(text_c, dim=1) * text_c.shape[1] ** 0.5)
        for block in self.fine:
            x = block(x, text)
        x = self.down(x)
        for block in self.coarse:
            x = block(x, text)
        heard = torch.cat([x.mean(2), x.std(2), x.amax(2)], dim=1)
        seen = torch.cat([heard, text, self.meet(heard) * text], dim=1)
        seen = seen if keep is None else seen * keep
        hidden = nn.functional.gelu(seen @ self.enter + self.bias)
        return (hidden @ self.leave).squeeze(2)

    def rewards(self, latents: Tensor, text_c: Tensor) -> Tensor:
        """Rewards ``(heads, B)`` on the scale of the reward they were learned from."""
        return self(latents, text_c) * self.scale[1] + self.scale[0]

    def save(self, folder: str | Path, facts: Mapping[str, Any], identities: Mapping[str, str]) -> str:
        """Write the network to ``folder``; returns its identity.

        Args:
            folder: made when absent.
            facts: what was measured on clips it has not seen.
            identities: of codec, clap and reward that its rows come from.
        """
        said = {"sizes": json.dumps(self.sizes), "identities": json.dumps(dict(identities), sort_keys=True)}
        return write_frozen(Path(folder) / FILE, self.state_dict(), NAME, VERSION, dict(facts), **said)


class LatentReward(RolloutReward):
    """Mean of the bag's heads, less ``caution`` times their standard deviation: where they disagree it promises less.

    Args:
        folder: where training left it (configs/rewards/latent.yaml).
        caution: weight of the disagreement; 0 is the mean.
    """

    def __init__(self, folder: str, caution: float = 1.0) -> None:
        path = Path(folder) / FILE
        if not path.is_file():
            raise FileNotFoundError(f"no latent reward at {path}: train it with '{RECIPE}'")
        try:
            with safe_open(str(path), framework="pt") as file:
                sizes = json.loads((file.metadata() or {}).get("sizes", "null"))
        except (SafetensorError, OSError, ValueError):
            sizes = None
        if sizes is None:
            raise ValueError(f"{path} is no latent reward: train it with '{RECIPE}'")
        self.net = LatentRewardNet(**sizes)
        frozen = read_frozen(path, NAME, self.net.state_dict())
        self.net.load_state_dict(frozen.tensors)
        self.net.eval().requires_grad_(False)
        self.caution, self.facts = caution, frozen.facts
        self.identities: dict[str, str] = json.loads(frozen.header["identities"])
        self.identity = f"{frozen.identity} mean - {caution:g} sd"

    def to(self, device: torch.device) -> None:
        """Bring the network there."""
        self.net.to(device)

    def check(self, identities: Mapping[str, str]) -> None:
        """Refuse latents of another codec or texts of another encoder."""
        for part in ("codec", "clap"):
            mine, theirs = self.identities.get(part), identities.get(part)
            if mine != theirs:
                raise ValueError(f"model.reward was trained on {part} {mine}, the store has {theirs}: train it there")

    @torch.no_grad()
    def score(self, latents: Tensor, prompts: PromptBatch) -> Tensor:
        """See `RolloutReward.score`."""
        device = self.net.scale.device
        found = self.net.rewards(latents.to(device).float(), prompts.text_c.to(device).float())
        worth = found.mean(0) - self.caution * found.std(0, correction=0)
        return torch.where(torch.isfinite(worth), worth, torch.nan).cpu()
