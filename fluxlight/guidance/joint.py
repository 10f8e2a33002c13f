"""Joint: classifier-free guidance over text and score at once, the published way."""

from __future__ import annotations

from fluxlight.guidance.base import Guidance


class Joint(Guidance):
    """w v(text, score) + (1 - w) v(negative) (FACTS section 4). What a sampler does when no kind is named."""
