"""The two published log-mel front ends, of the 16 kHz and the 44.1 kHz world (FACTS sections 6 and 8)."""

from __future__ import annotations

import math

from torch import Tensor

from fluxlight.codec.mel import Spectrum

FRONT_ENDS: dict[str, dict[str, int]] = {
    "16k": {"sample_rate": 16000, "n_fft": 1024, "hop": 256, "n_mels": 80},
    "44k": {"sample_rate": 44100, "n_fft": 2048, "hop": 512, "n_mels": 128},
}
"""Geometry by world; the filters reach from 0 Hz to half the sample rate in both."""

LOG_BASES = {"16k": 10.0, "44k": math.e}
"""Base of the logarithm by world: the two VAEs were trained on different ones."""


class PublishedMel(Spectrum):
    """The log-mel front end of a published VAE; its frames, filters and clamps are those of :class:`Spectrum`.

    Args:
        mode: "16k" or "44k".
    """

    def __init__(self, mode: str = "44k") -> None:
        if mode not in FRONT_ENDS:
            raise ValueError(f"mode {mode!r} is no published world: give one of {', '.join(FRONT_ENDS)}")
        super().__init__(**FRONT_ENDS[mode])
        self.nats = math.log(LOG_BASES[mode])

    def mel_of(self, magnitude: Tensor) -> Tensor:
        """Log-mel ``(B, n_mels, T)`` of magnitudes ``(B, T, n_fft / 2 + 1)``, to the base of this world."""
        return super().mel_of(magnitude) / self.nats
