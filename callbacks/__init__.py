"""Callbacks: when to render, measure and keep. All measuring lives in `fluxlight.metrics`."""

from callbacks.candidate_writer import CandidateWriter
from callbacks.checkpoint import BundleWriter, LastCheckpoint
from callbacks.compiled import Compiled
from callbacks.ema import PowerEMA
from callbacks.guard import Guard
from callbacks.measures import (
    CLAPCallback,
    DiversityCallback,
    FADCallback,
    KADCallback,
    MADCallback,
    Measure,
    RewardCallback,
)
from callbacks.media import SliceMedia
from callbacks.progress import UpdatesBar
from callbacks.render_slice import RenderSlice
from callbacks.run_config import SaveRunConfig
from callbacks.trackio_run import StageTrackioLogger, TrackioMedia
from callbacks.wandb_run import StageWandbLogger, WandbMedia

__all__ = [
    "BundleWriter",
    "CLAPCallback",
    "CandidateWriter",
    "Compiled",
    "DiversityCallback",
    "FADCallback",
    "Guard",
    "KADCallback",
    "LastCheckpoint",
    "MADCallback",
    "Measure",
    "PowerEMA",
    "RenderSlice",
    "RewardCallback",
    "SaveRunConfig",
    "SliceMedia",
    "StageTrackioLogger",
    "StageWandbLogger",
    "TrackioMedia",
    "UpdatesBar",
    "WandbMedia",
]
