"""Measures: pure float64 functions, their ``torchmetrics`` classes (loaded on first use), statistics and evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluxlight.challenge.rank import borda_points, borda_rank
from fluxlight.metrics.clap_score import clap_scores, retrieval, shuffled_scores
from fluxlight.metrics.diversity import diversity, diversity_per_prompt
from fluxlight.metrics.frechet import FrechetGram, fad, fad_to, frechet_distance, moments
from fluxlight.metrics.kad import KernelGram, kad
from fluxlight.metrics.mad import mad
from fluxlight.metrics.reference import Reference

if TYPE_CHECKING:
    from fluxlight.metrics.gathered import Diversity, KernelAudioDistance, MauveAudioDivergence
    from fluxlight.metrics.streaming import ClapScore, FrechetAudioDistance, ReferenceMoments, RewardMean

_STREAMING = ("ClapScore", "FrechetAudioDistance", "ReferenceMoments", "RewardMean")
_GATHERED = ("Diversity", "KernelAudioDistance", "MauveAudioDivergence")

__all__ = [
    "ClapScore", "Diversity", "FrechetAudioDistance", "FrechetGram", "KernelAudioDistance", "KernelGram",
    "MauveAudioDivergence", "Reference", "ReferenceMoments", "RewardMean", "borda_points", "borda_rank", "clap_scores",
    "diversity", "diversity_per_prompt", "fad", "fad_to", "frechet_distance", "kad", "mad", "moments", "retrieval",
    "shuffled_scores",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # torchmetrics takes seconds to import, and the verbs that only read numbers do not need it
    if name in _STREAMING + _GATHERED:
        from fluxlight.metrics import gathered, streaming

        return getattr(streaming if name in _STREAMING else gathered, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
