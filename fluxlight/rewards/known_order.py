"""How often a reward finds the order we know: by kind of damage, by level, across clips, and of captions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fluxlight.embedded.corpus import FAULTS
from fluxlight.random import generator
from fluxlight.rewards.embedded import EmbeddedReward
from fluxlight.rewards.features import CLEAN, Items


def score_items(reward: EmbeddedReward, items: Items, owner: Tensor | None = None, wording: int = 0) -> Tensor:
    """Scores ``(M,)`` of items with one of their own captions, or with those of the compositions ``owner`` ``(M,)``."""
    text = items.text[items.clip if owner is None else owner, wording]
    device = reward.affine.device
    second = reward.descriptors.standardise(items.second.to(device))
    return reward.score_embeddings(items.clap.to(device), second, text.to(device)).cpu()


def _share(better: Tensor, worse: Tensor) -> list[float | int | None]:
    """[share of pairs in which the better one scores higher, number of pairs]; equal scores count half.

    No pairs: [None, 0].
    """
    won = (better > worse).double() + 0.5 * (better == worse).double()
    return [round(float(won.mean()), 4), won.numel()] if won.numel() else [None, 0]


def known_order(reward: EmbeddedReward, items: Items, seed: int = 0) -> dict[str, Any]:
    """Pair accuracies, each with its number of pairs.

    Returns:
        ``damage``: kind -> {``mildest``: level 1, ``rest``: levels 2-4, same composition; ``across``: a faulty clip
        (levels 2-4) against every clean one of another composition}; ``level``: kind -> mild against strong, same
        composition; ``caption``: {``clean``, ``faulty``: own against a stranger's caption of one clip; ``across``: two
        clean clips, one with a stranger's caption}.
    """
    score = score_items(reward, items)
    clip, kind, level = items.clip, items.kind, items.level
    clean = (kind == CLEAN).nonzero().squeeze(1)
    clean_score = torch.full((items.text.shape[0],), float("nan"))
    clean_score[clip[clean]] = score[clean]
    result: dict[str, Any] = {"damage": {}, "level": {}}
    for number, name in enumerate(FAULTS):
        mine = (kind == number).nonzero().squeeze(1)
        paired = mine[~clean_score[clip[mine]].isnan()]
        row = {}
        for part, keep in (("mildest", level[paired] == 1), ("rest", level[paired] > 1)):
            row[part] = _share(clean_score[clip[paired[keep]]], score[paired[keep]])
        bad = mine[level[mine] > 1]
        other = clip[clean][:, None] != clip[bad][None, :]
        one, two = torch.broadcast_tensors(score[clean][:, None], score[bad][None, :])
        row["across"] = _share(one[other], two[other])
        result["damage"][name] = row
        weak, strong = [], []
        for i in mine.tolist():
            same = mine[(clip[mine] == clip[i]) & (level[mine] > level[i])]
            weak += [i] * len(same)
            strong += same.tolist()
        result["level"][name] = _share(score[weak], score[strong])
    count = items.text.shape[0]
    shift = torch.randint(1, count, (len(items),), generator=generator(seed, 47))
    wrong = score_items(reward, items, (clip + shift) % count)
    faulty = kind != CLEAN
    turn = torch.roll(torch.arange(len(clean)), 1)
    result["caption"] = {
        "clean": _share(score[clean], wrong[clean]),
        "faulty": _share(score[faulty], wrong[faulty]),
        "across": _share(score[clean], wrong[clean][turn]),
    }
    return result
