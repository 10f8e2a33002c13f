"""Where captioned audio comes from, one kind a file: the embedded corpus, folders with tables, published layouts.

Every kind is a `Source`; those that read audio files are an `AudioFiles` and only turn their table into tracks.
"""

from fluxlight.data.sources.base import LeftOut, Source, Track
from fluxlight.data.sources.challenge import ChallengeList
from fluxlight.data.sources.corpus import CorpusSplit
from fluxlight.data.sources.files import LOWEST, AudioFiles
from fluxlight.data.sources.folder import AudioFolder
from fluxlight.data.sources.jamendo import Jamendo
from fluxlight.data.sources.npz import NpzFolder
from fluxlight.data.sources.segments import SegmentTable
from fluxlight.data.sources.song_describer import SongDescriber

__all__ = [
    "LOWEST",
    "AudioFiles",
    "AudioFolder",
    "ChallengeList",
    "CorpusSplit",
    "Jamendo",
    "LeftOut",
    "NpzFolder",
    "SegmentTable",
    "SongDescriber",
    "Source",
    "Track",
]
