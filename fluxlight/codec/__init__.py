"""Audio <-> latents: the base class, the 44.1 kHz log-mel front end and the embedded codec."""

from fluxlight.codec.base import Codec
from fluxlight.codec.embedded import EmbeddedCodec

__all__ = ["Codec", "EmbeddedCodec"]
