"""Advantages of rollouts: how much better a clip is than the others of its prompt, in units of the epoch's spread."""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 1e-4
"""Added to the spread that advantages are divided by (as shipped, METHODS 1.2)."""
FLAT = 1e-9
"""Spread of a prompt's rewards, relative to their size, that is none."""


def advantages(rewards: Tensor, limit: float = 5.0) -> tuple[Tensor, dict[str, float]]:
    """Reward less the mean of its prompt, over the standard deviation of all rewards, clipped (METHODS 1.2, 2.7).

    The spread is the epoch's and not the prompt's: dividing by the latter would blow up the prompts whose clips hardly
    differ. A prompt whose rewards are all equal teaches nothing and is left out; so is a clip without reward.

    Args:
        rewards: ``(P, G)`` of G clips of P prompts each, of all processes; NaN for a clip that has none.
        limit: advantages are clipped to +- this (shipped 5).

    Returns:
        Advantages ``(P, G)``, float64, NaN for what is left out; and what to log: mean and spread of the rewards,
        spread within prompts, share of prompts without spread and of clips without reward, spread and largest size of
        the advantages.
    """
    r = rewards.double()
    has = torch.isfinite(r)
    if not bool(has.any()):
        raise ValueError("no rollout of this epoch has a reward: look at the errors in rollouts/rollouts.jsonl")
    count = has.sum(1, keepdim=True)
    mean = torch.where(has, r, 0).sum(1, keepdim=True) / count.clamp_min(1)
    off = torch.where(has, r - mean, 0)
    within = (off.square().sum(1, keepdim=True) / count.clamp_min(1)).sqrt()
    flat = within <= FLAT * mean.abs().clamp_min(1)
    spread = r[has].std(correction=0)
    found = (off / (spread + FLOOR)).clamp(-limit, limit)
    found = torch.where(has & ~flat, found, torch.nan)
    left = found[torch.isfinite(found)]
    logs = {
        "reward": r[has].mean(), "reward_sd": spread, "reward_sd_within": within[count > 1].mean(),
        "flat_prompts": flat.double().mean(), "failed_clips": (~has).double().mean(),
        "advantage_sd": left.std(correction=0) if len(left) else 0.0,
        "advantage_max": left.abs().max() if len(left) else 0.0,
    }  # fmt: skip
    return found, {name: float(value) for name, value in logs.items()}
