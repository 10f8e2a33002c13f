"""Audio <-> latents: the base class, the log-mel front ends, the embedded and the published codec."""

from fluxlight.codec.base import Codec
from fluxlight.codec.embedded import EmbeddedCodec
from fluxlight.codec.mmaudio import MMAudioCodec

__all__ = ["Codec", "EmbeddedCodec", "MMAudioCodec"]
