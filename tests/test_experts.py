"""Experts chosen within their prompts, what they are trained under, and the spread they are brought to."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from fluxlight.data.generated import with_spread
from fluxlight.mining.experts import select_experts


def rows(prompts: int = 12, per: int = 5) -> list[dict[str, Any]]:
    """Candidates whose prompts differ more than the clips of one prompt do."""
    draw = random.Random(5)
    return [
        {"id": f"p{p:02d}", "prompt": f"text {p}", "seed": k, "checkpoint": "c", "audio": "a", "latent": "l",
         "reward": 3.0 * p + draw.gauss(0, 1), "clap": 0.2 * p + draw.gauss(0, 0.1), "error": "",
         "extra": {"sampler": {"score": 1.5}}}
        for p in range(prompts) for k in range(per)
    ]  # fmt: skip


def test_within_a_prompt_easy_prompts_are_not_preferred() -> None:
    everything = rows()
    easy = Counter(row["id"] for row in select_experts(everything, top=0.2))
    fair = Counter(row["id"] for row in select_experts(everything, top=1.0, among="prompt", cap=1))
    assert set(easy) < {f"p{p:02d}" for p in range(8, 12)}
    assert fair == {f"p{p:02d}": 1 for p in range(12)}


def test_the_advantage_is_the_blend_over_its_prompts_mean() -> None:
    kept = select_experts(rows(), top=1.0, among="prompt")
    for id in {row["id"] for row in kept}:
        mine = [row for row in kept if row["id"] == id]
        mean = np.mean([row["blend"] for row in mine])
        assert [row["advantage"] for row in mine] == pytest.approx([row["blend"] - mean for row in mine])
        assert sum(row["advantage"] for row in mine) == pytest.approx(0, abs=1e-9)
    good = select_experts(rows(), top=1.0, among="prompt", least=0.1)
    assert good == [row for row in kept if row["advantage"] >= 0.1] and 0 < len(good) < len(kept)


def test_a_cap_holds_with_the_published_order_too() -> None:
    kept = select_experts(rows(), top=0.5, cap=2)
    assert max(Counter(row["id"] for row in kept).values()) == 2 and len(kept) == 24
    assert [row["rank"] for row in kept] == list(range(1, 25))


def test_experts_are_labelled_with_their_own_score_or_with_what_was_asked() -> None:
    assert all(row["label"] == row["reward"] for row in select_experts(rows()))
    assert all(row["label"] == 1.5 for row in select_experts(rows(), label="asked"))
    with pytest.raises(ValueError, match="without a score"):
        select_experts([{**row, "extra": {}} for row in rows()], label="asked")


@pytest.mark.parametrize(
    ("settings", "named"), [({"cap": 0}, "cap is 0"), ({"top": 0.0}, "top is 0.0"), ({"least": 99.0}, "below 99.0")]
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        select_experts(rows(), **settings)


def test_the_spread_of_all_rows_together_becomes_the_one_asked_for() -> None:
    draw = np.random.default_rng(0)
    mean, std = draw.normal(size=6).astype(np.float32), np.exp(draw.normal(size=6)).astype(np.float32)
    normal = 0.7 * draw.normal(size=(9, 11, 6)) * np.arange(1, 10)[:, None, None]
    wide = with_spread((normal * std + mean).astype(np.float32), mean, std, 0.86)
    assert np.sqrt((((wide - mean) / std) ** 2).mean()) == pytest.approx(0.86, rel=1e-5)
    # one factor for all: clips keep their differences
    assert np.allclose((wide - mean) / std / normal, ((wide - mean) / std / normal)[0, 0, 0], rtol=1e-3)
    with pytest.raises(ValueError, match="spread is 0"):
        with_spread(wide, mean, std, 0.0)
