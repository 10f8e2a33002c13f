"""Stages: one LightningModule each."""

from fluxlight.stages.base import Stage
from fluxlight.stages.crpo import CRPO, CRPOTerms, crpo_loss
from fluxlight.stages.expert_iter import ExpertIter
from fluxlight.stages.score_cond_sft import ScoreCondSFT

__all__ = ["CRPO", "CRPOTerms", "ExpertIter", "ScoreCondSFT", "Stage", "crpo_loss"]
