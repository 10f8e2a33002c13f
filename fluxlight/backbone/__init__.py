"""Backbones: velocity networks with ports."""

from fluxlight.backbone.base import Backbone, Injection, Ports, Prepared
from fluxlight.backbone.fluxaudio import FluxAudio

__all__ = ["Backbone", "FluxAudio", "Injection", "Ports", "Prepared"]
