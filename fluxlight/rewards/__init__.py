"""Rewards: what a listener would prefer, as a number. TuneJury's head, and two embedded rewards without download."""

from fluxlight.rewards.base import Reward
from fluxlight.rewards.descriptors import SignalDescriptors
from fluxlight.rewards.embedded import EmbeddedReward, RewardA, RewardB
from fluxlight.rewards.latent import LatentReward
from fluxlight.rewards.published import TuneJuryReward
from fluxlight.rewards.rollout import DecodedReward, RolloutReward
from fluxlight.rewards.tunejury import TuneJury

__all__ = [
    "DecodedReward",
    "EmbeddedReward",
    "LatentReward",
    "Reward",
    "RewardA",
    "RewardB",
    "RolloutReward",
    "SignalDescriptors",
    "TuneJury",
    "TuneJuryReward",
]
