"""Encoders: text -> features, and the joint text-audio models (CLAP).

Embedded: MiniLM, CLAP-A and CLAP-B; the rest
load published weights, and transformers only when one is made.
"""

from fluxlight.encoders.base import TextAudioModel, TextEncoder
from fluxlight.encoders.clap_a import ClapA
from fluxlight.encoders.clap_b import ClapB
from fluxlight.encoders.laion_clap import LaionClap
from fluxlight.encoders.mert import Mert
from fluxlight.encoders.minilm import MiniLM
from fluxlight.encoders.t5 import T5

__all__ = ["T5", "ClapA", "ClapB", "LaionClap", "Mert", "MiniLM", "TextAudioModel", "TextEncoder"]
