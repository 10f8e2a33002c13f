"""Numbers about a reward: accuracy, calibration error, anchor calibration, and the affine scale it is read on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

EMBEDDED_MEAN, EMBEDDED_SD = 0.5, 1.2
"""Scale of the embedded rewards on the training mixture (our choice); TuneJury on MTG-Jamendo: 0.515/1.205."""


def ranknet_loss(margin: Tensor, target: Tensor) -> Tensor:
    """RankNet: mean binary cross-entropy of margins s(a) - s(b) ``(B,)`` to targets 1, 0 or 0.5 for a tie (FACTS 5)."""
    return F.binary_cross_entropy_with_logits(margin, target)


def pair_accuracy(margin: Tensor, target: Tensor) -> tuple[float, int]:
    """Share of non-tie pairs whose margin has the right sign, and how many those are; an exact 0 counts half."""
    keep = target != 0.5
    count = int(keep.sum())
    if count == 0:
        return float("nan"), 0
    signed = margin[keep] * (2 * target[keep] - 1)
    return float(((signed > 0).double() + 0.5 * (signed == 0).double()).mean()), count


def expected_calibration_error(margin: Tensor, target: Tensor, bins: int = 10) -> float:
    r"""ECE over equal-count bins of \|margin\| without ties (FACTS 5: 10 bins; published head: 0.0339).

    Per bin the confidence is the mean of sigmoid(\|margin\|) and the accuracy the share of right signs; the error is
    their absolute difference, weighted by the bin's share of pairs.
    """
    keep = target != 0.5
    margin, target = margin[keep].double(), target[keep].double()
    if margin.numel() == 0:
        return float("nan")
    order = margin.abs().argsort(stable=True)
    # a graded target is how often a wins: the favoured side is right that often
    right = torch.where(margin > 0, target, torch.where(margin < 0, 1 - target, 0.5 * torch.ones_like(target)))[order]
    confidence = torch.sigmoid(margin.abs())[order]
    error = 0.0
    for hit, sure in zip(right.tensor_split(bins), confidence.tensor_split(bins), strict=True):
        if hit.numel():
            error += hit.numel() / right.numel() * abs(float(hit.mean() - sure.mean()))
    return error


def anchor_calibration(
    reward_a: Tensor,
    reward_b: Tensor,
    system_a: Sequence[str],
    system_b: Sequence[str],
    target: Tensor,
    anchor: str,
    strength: float = 1.0,
) -> dict[str, float]:
    r"""Bias of each system, such that rewards minus biases explain the votes (FACTS section 5).

    P(a wins) = sigmoid((r_a - b[sys(a)]) - (r_b - b[sys(b)])); minimised is log-loss + strength * \|b\|^2 with the
    anchor's bias pinned at 0. The published text does not say whether the log-loss is summed or averaged [?]; ours is
    the sum over pairs, the usual reading of a penalised likelihood.

    Args:
        reward_a, reward_b: ``(P,)`` rewards of the two clips of each pair.
        system_a, system_b: P names of the systems that made them.
        target: ``(P,)`` 1 if a won, 0 if b won, 0.5 for a tie.
        anchor: the system whose bias is 0.

    Returns:
        Bias of every system by name.
    """
    names = sorted({*system_a, *system_b})
    if anchor not in names:
        raise ValueError(f"anchor {anchor!r} made none of the clips: choose one of {', '.join(names)}")
    place = {name: index for index, name in enumerate(names)}
    first = torch.tensor([place[name] for name in system_a])
    second = torch.tensor([place[name] for name in system_b])
    margin, target = (reward_a - reward_b).double(), target.double()
    free = torch.tensor([float(name != anchor) for name in names], dtype=torch.float64)
    bias = torch.zeros(len(names), dtype=torch.float64, requires_grad=True)
    # smooth and strictly convex (strength > 0): L-BFGS with a strong-Wolfe search ends at the one minimum
    optimizer = torch.optim.LBFGS([bias], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        pinned = bias * free
        logit = margin - pinned[first] + pinned[second]
        loss = F.binary_cross_entropy_with_logits(logit, target, reduction="sum") + strength * (pinned**2).sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return {name: float(bias[place[name]].detach() * free[place[name]]) for name in names}


@dataclass(frozen=True)
class Affine:
    """score = scale * raw + shift: the scale a reward is read on; it never changes an order (scale > 0)."""

    scale: float
    shift: float

    def __call__(self, raw: Tensor) -> Tensor:
        """Raw scores ``(B,)`` on the calibrated scale ``(B,)``."""
        return self.scale * raw + self.shift

    @classmethod
    def fit(cls, raw: Tensor, mean: float = EMBEDDED_MEAN, sd: float = EMBEDDED_SD) -> Affine:
        """The map that gives the raw scores ``(N,)`` of a reference set this mean and standard deviation (n - 1)."""
        spread = float(raw.double().std()) if raw.numel() > 1 else 0.0
        if not spread > 0:
            raise ValueError(f"{raw.numel()} raw scores have no spread: calibrate on at least two different clips")
        scale = sd / spread
        return cls(scale=scale, shift=mean - scale * float(raw.double().mean()))
