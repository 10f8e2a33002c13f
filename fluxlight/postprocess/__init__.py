"""What is done to a clip after decoding: callables `Clip -> Clip`. Separate (Demucs passes), Loudness, LockedLoudness.

Nothing here raises for a clip that cannot be treated (silent, too short, not finite): the clip passes unchanged and
carries a note. Upstream writes NaN audio for a silent clip (FACTS section 4); we do not.
"""

from fluxlight.postprocess.base import SHORTEST_SECONDS, PostProcess, process, process_many
from fluxlight.postprocess.loudness import LockedLoudness, Loudness, integrated_loudness
from fluxlight.postprocess.separate import Separate

__all__ = [
    "SHORTEST_SECONDS",
    "LockedLoudness",
    "Loudness",
    "PostProcess",
    "Separate",
    "integrated_loudness",
    "process",
    "process_many",
]
