"""Stages: one LightningModule a file; every file of this folder is imported, so a class name alone finds its stage."""

from __future__ import annotations

from fluxlight.recorded import family
from fluxlight.stages.base import Stage
from fluxlight.stages.expert_iter import ExpertIter
from fluxlight.stages.offline_policy import OfflinePolicy
from fluxlight.stages.online import Online
from fluxlight.stages.preference import CRPO, Preference
from fluxlight.stages.score_cond_sft import ScoreCondSFT

globals().update(family(__name__, __path__, Stage))

__all__ = ["CRPO", "ExpertIter", "OfflinePolicy", "Online", "Preference", "ScoreCondSFT", "Stage"]
