"""Separate: a guidance weight for the text and one for the score."""

from __future__ import annotations

from fluxlight.guidance.base import Branch, Guidance


class Separate(Guidance):
    """v_n + w (v_t - v_n) + u (v_s - v_t) (our choice of the usual nested form). Three forwards a step.

    v_n is the negative branch, v_t has text and null score, v_s text and score; u is the sampler's ``score_weight``,
    by default w, which is `Joint`.
    """

    has_score_weight = True

    def factors(self, weight: float, score_weight: float | None) -> dict[Branch, float]:
        """Factors of (text and score, negative, text alone)."""
        u = weight if score_weight is None else score_weight
        return {"conditional": u, "negative": 1 - weight, "text": weight - u}
