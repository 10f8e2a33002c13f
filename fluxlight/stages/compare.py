"""Compare: how a model tells winners and losers apart, at noises and times that depend on the pair alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch import Tensor

from fluxlight.data.pairs import Pairs
from fluxlight.flow import Prediction
from fluxlight.random import words
from fluxlight.stages.draws import Draws, draw
from fluxlight.types import Batch, PairBatch

DRAWS = 4
"""Noises and times at which a pair is looked at (our choice)."""
AT_ONCE = 8
"""Pairs in a forward pass; no number depends on it."""


def differences(
    predict: Callable[[Batch, Draws], Prediction],
    conditioned: Callable[[PairBatch], tuple[Batch, Batch]],
    pairs: Pairs,
    numbers: Sequence[int],
    key: tuple[int, ...],
    name: str,
    device: torch.device,
) -> Tensor:
    """L_loser - L_winner of each pair at `DRAWS` draws of its own, nothing dropped: ``(len(numbers) * DRAWS,)``.

    Args:
        predict: of the model that is asked.
        conditioned: winner and loser under the scores they are compared at.
        pairs: where they are.
        numbers: which.
        key, name: of the draws, beside the number of the pair.
        device: of the model.
    """
    found = [torch.zeros(0, device=device)]
    for start in range(0, len(numbers), AT_ONCE):
        part = numbers[start : start + AT_ONCE]
        batch = move_data_to_device(pairs.batch([number for number in part for _ in range(DRAWS)]), device)
        shape = torch.Size((DRAWS, *batch.winner.mean.shape[1:]))
        each = [draw(shape, (*key, *words(name), number)) for number in part]
        draws = Draws(**{f.name: torch.cat([getattr(d, f.name) for d in each]) for f in fields(Draws)})
        # a coin of 1 drops nothing
        draws.text_coin, draws.score_coin = torch.ones_like(draws.t), torch.ones_like(draws.t)
        winner, loser = conditioned(batch)
        with torch.no_grad():
            found.append(predict(loser, draws.to(device)).error - predict(winner, draws.to(device)).error)
    return torch.cat(found)
