"""Experts: the candidates that the next round trains on. A pure function of rows; no audio, no model, no random.

Published (FACTS section 3): z-scored reward and z-scored CLAP blended, the top decile of all kept. That takes easy
prompts as often as good clips: at `tiny` 35 experts came from 17 of 70 prompts, and reward A spreads by .34 between
prompts, .28 within one. ``among="prompt"`` asks instead which clip is better than the others of its own prompt.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from fluxlight.clips.candidates import key_of
from fluxlight.mining.select import Row, prompt_of, refuse_slice, usable

Among = Literal["all", "prompt"]
Label = Literal["own", "asked"]


def z_scores(values: Sequence[float]) -> list[float]:
    """``(value - mean) / standard deviation`` (population); zeros where all values are equal."""
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    # a spread at rounding level is no spread: it would blow noise up to unit variance
    flat = deviation <= 1e-12 * max(1.0, abs(mean))
    return [0.0 if flat else (value - mean) / deviation for value in values]


def select_experts(
    rows: Iterable[Row],
    weight_reward: float = 0.5,
    weight_clap: float = 0.5,
    top: float = 0.1,
    slice_ids: Collection[str] = (),
    among: Among = "all",
    cap: int | None = None,
    least: float | None = None,
    label: Label = "own",
) -> list[Row]:
    """The best scored candidates by ``weight_reward z(reward) + weight_clap z(clap)``.

    Args:
        rows: scored candidates; those with an error or without finite scores are passed over.
        weight_reward: weight of the z-scored reward; equal weights are the published choice [S] (FACTS section 3).
        weight_clap: weight of the z-scored CLAP similarity.
        top: share of the usable rows that is kept at most, rounded up: the top decile [S].
        slice_ids: ids that must not occur.
        among: "all" ranks by the blend (published), "prompt" by the blend's advantage over the mean of its prompt.
        cap: at most so many clips of one prompt; None is no limit. ``among="prompt", top=1, cap=k`` keeps the k best of
            every prompt.
        least: smallest blend, or advantage, that is kept; None is no limit.
        label: score that an expert is trained under: its "own" reward, or the one it was "asked" for when drawn.

    Returns:
        The rows, best first, with ``z_reward``, ``z_clap``, ``blend``, ``advantage`` (over the mean of the prompt),
        ``label`` (the score) and ``rank`` (1 = best) added. Ties go to the smaller key, so the order of the input never
        matters.

    Raises:
        ValueError: a setting out of range, an id of the slice, nothing usable, or nothing as good as ``least``.
    """
    if not 0 < top <= 1:
        raise ValueError(f"top is {top}: it is the share that is kept, above 0 and at most 1")
    if cap is not None and cap < 1:
        raise ValueError(f"cap is {cap}: it is the number of clips of one prompt, at least 1")
    refuse_slice(rows := list(rows), slice_ids)
    good = usable(rows, "reward", "clap")
    if not good:
        raise ValueError(f"none of {len(rows)} rows has finite scores: run `fluxlight score` and look at the errors")
    scored = _advantages(good, weight_reward, weight_clap)
    by = "blend" if among == "all" else "advantage"
    scored.sort(key=lambda row: (-row[by], key_of(row)))
    # 1e-9: 0.1 * 640 must be 64, not 65, whatever the binary fraction says
    room, taken = max(1, math.ceil(top * len(scored) - 1e-9)), Counter[tuple[str, str]]()
    kept: list[Row] = []
    for row in scored:
        if len(kept) == room or (least is not None and row[by] < least):
            break
        if cap is None or taken[prompt_of(row)] < cap:
            taken[prompt_of(row)] += 1
            kept.append(row)
    if not kept:
        raise ValueError(f"the best {by} of {len(scored)} candidates is {scored[0][by]:.3g}, below {least}: lower it")
    return [{**row, "label": _label(row, label), "rank": rank} for rank, row in enumerate(kept, 1)]


def _advantages(rows: Sequence[Row], weight_reward: float, weight_clap: float) -> list[Row]:
    reward, clap = z_scores([row["reward"] for row in rows]), z_scores([row["clap"] for row in rows])
    scored = [
        {**row, "z_reward": r, "z_clap": c, "blend": weight_reward * r + weight_clap * c}
        for row, r, c in zip(rows, reward, clap, strict=True)
    ]
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in scored:
        groups[prompt_of(row)].append(row["blend"])
    means = {prompt: math.fsum(blends) / len(blends) for prompt, blends in groups.items()}
    return [{**row, "advantage": row["blend"] - means[prompt_of(row)]} for row in scored]


def _label(row: Row, label: Label) -> float:
    if label == "own":
        return float(row["reward"])
    asked = row.get("extra", {}).get("sampler", {}).get("score")
    if asked is None:
        raise ValueError(f"candidate {row['id']} was drawn without a score: label experts with their own")
    return float(asked)
