"""A model, conditions and a kind of guidance become a velocity."""

from __future__ import annotations

import torch
from torch import Tensor

from fluxlight.backbone.base import Prepared
from fluxlight.guidance.base import Branch, Guidance, GuidedVelocity, WeightSchedule
from fluxlight.guidance.joint import Joint
from fluxlight.guidance.separate import Separate
from fluxlight.model import FluxModel
from fluxlight.types import Condition


def guide(
    model: FluxModel,
    condition: Condition,
    score: Tensor | float | None = None,
    weight: float = 4.0,
    negative: Condition | None = None,
    schedule: WeightSchedule | None = None,
    joined: bool | None = None,
    *,
    guidance: Guidance | None = None,
    score_weight: float | None = None,
    negative_score: float | None = None,
) -> GuidedVelocity:
    """A velocity of ``model`` under guidance. Conditions are projected here, once.

    Args:
        model: the model.
        condition: text ``(B, T, E)``, ``(B, C)``.
        score: ``(B,)``, one number for all, or None for the null score.
        weight: of the guidance; 1 is none.
        negative: text of the negative branch; the model's stored negative text when None.
        schedule: how the weights depend on t; constant when None.
        joined: run the branches as one batch; None does so for one or two clips, where it is faster.
        guidance: the kind; None is the sum of branches, as published.
        score_weight: a weight of its own for the score; None is one for both.
        negative_score: score of the negative branch; None is the null score, as published.
    """
    n = condition.text.shape[0]
    chosen = guidance or (Joint() if score_weight is None else Separate())
    if score_weight is not None and not chosen.has_score_weight:
        raise ValueError(f"score_weight is {score_weight:g}, but {type(chosen).__name__} has one weight: set it null")
    texts = model.negative_condition(n) if negative is None else negative
    branches: dict[Branch, Prepared] = {
        "conditional": model.prepare(condition, _scores(score, condition)),
        "negative": model.prepare(texts, _scores(negative_score, condition)),
    }
    if chosen.has_score_weight:
        branches["text"] = model.prepare(condition)
    return GuidedVelocity(
        model,
        chosen,
        branches,
        weight,
        score_weight,
        schedule or WeightSchedule(),
        n <= 2 if joined is None else joined,
    )


def _scores(score: Tensor | float | None, condition: Condition) -> Tensor | None:
    n, device = condition.text.shape[0], condition.text.device
    if score is None:
        return None
    if isinstance(score, Tensor) and score.dim():
        return score.to(device=device, dtype=torch.float32)
    return torch.full((n,), float(score), device=device)
