"""Callbacks: when to render, measure and keep. All measuring lives in `fluxlight.metrics`."""

from callbacks.candidate_writer import CandidateWriter
from callbacks.checkpoint import BundleWriter, LastCheckpoint
from callbacks.ema import PowerEMA
from callbacks.measures import CLAPCallback, FADCallback, RewardCallback
from callbacks.progress import UpdatesBar
from callbacks.render_slice import RenderSlice
from callbacks.run_config import SaveRunConfig

__all__ = [
    "BundleWriter",
    "CLAPCallback",
    "CandidateWriter",
    "FADCallback",
    "LastCheckpoint",
    "PowerEMA",
    "RenderSlice",
    "RewardCallback",
    "SaveRunConfig",
    "UpdatesBar",
]
