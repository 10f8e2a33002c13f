"""Data: the packed latent store and the data modules of the stages."""

from fluxlight.data.mixture import MixtureData
from fluxlight.data.pairs import PairData
from fluxlight.data.prompt_file import PromptFile
from fluxlight.data.rewarded import RewardedData
from fluxlight.data.sft import Candidates, SFTData
from fluxlight.data.store import LatentStore
from fluxlight.data.writer import LatentStoreWriter

__all__ = [
    "Candidates",
    "LatentStore",
    "LatentStoreWriter",
    "MixtureData",
    "PairData",
    "PromptFile",
    "RewardedData",
    "SFTData",
]
