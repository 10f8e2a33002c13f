"""Encoders: text -> features, and the joint text-audio models (CLAP)."""

from fluxlight.encoders.base import TextAudioModel, TextEncoder
from fluxlight.encoders.clap_a import ClapA
from fluxlight.encoders.clap_b import ClapB
from fluxlight.encoders.minilm import MiniLM

__all__ = ["ClapA", "ClapB", "MiniLM", "TextAudioModel", "TextEncoder"]
