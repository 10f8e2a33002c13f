"""Properties of store, stream and selection that hold for any rows (those of the reader: test_tables.py)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_world import D, L, features, make_store

from fluxlight.data import LatentStore
from fluxlight.data.samplers import BatchStream, Stream
from fluxlight.mining.experts import select_experts
from fluxlight.mining.pairs.base import select_pairs
from fluxlight.mining.pairs.extremes import Extremes

# -- selection -------------------------------------------------------------------------------------------------------

SCORE = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 0.5, 1.0, math.nan, math.inf, None])
ROW = st.fixed_dictionaries({
    "id": st.sampled_from("abcd"), "prompt": st.sampled_from(["x", "y"]), "seed": st.integers(0, 5),
    "checkpoint": st.sampled_from(["c", "d"]), "reward": SCORE, "clap": SCORE, "error": st.sampled_from(["", "bad"]),
})  # fmt: skip
ROWS = st.lists(ROW, min_size=1, max_size=12, unique_by=lambda row: (row["id"], row["seed"], row["checkpoint"]))


def fine(row: dict[str, Any], *columns: str) -> bool:
    return not row["error"] and all(row[c] is not None and math.isfinite(row[c]) for c in columns)


@given(rows=ROWS, top=st.floats(0.01, 1), weight=st.floats(0, 1), order=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=80)
def test_experts(rows: list[dict[str, Any]], top: float, weight: float, order: Any) -> None:
    usable = [row for row in rows if fine(row, "reward", "clap")]
    if not usable:
        with pytest.raises(ValueError, match="has finite scores"):
            select_experts(rows, weight, 1 - weight, top)
        return
    chosen = select_experts(rows, weight, 1 - weight, top)
    assert [row["rank"] for row in chosen] == list(range(1, len(chosen) + 1))
    assert 1 <= len(chosen) <= len(usable) and len(chosen) == max(1, math.ceil(top * len(usable) - 1e-9))
    blends = [row["blend"] for row in chosen]
    assert blends == sorted(blends, reverse=True) and all(math.isfinite(blend) for blend in blends)
    assert all({k: row[k] for k in rows[0]} in usable for row in chosen), "rows as they were"
    # no row that was left out is better than one that was taken
    everyone = select_experts(rows, weight, 1 - weight, 1.0)
    assert [row["blend"] for row in everyone[: len(chosen)]] == blends
    shuffled = rows.copy()
    order.shuffle(shuffled)
    assert select_experts(shuffled, weight, 1 - weight, top) == chosen, "the order of the rows never matters"
    with pytest.raises(ValueError, match="belong to the evaluation slice"):
        select_experts(rows, slice_ids={rows[0]["id"]})


@given(rows=ROWS, margin=st.sampled_from([0.0, 0.25, 10.0]), order=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=80)
def test_pairs(rows: list[dict[str, Any]], margin: float, order: Any) -> None:
    try:
        pairs = select_pairs(rows, Extremes(margin=margin))
    except ValueError as error:
        assert "finite clap" in str(error) or "two candidates of which one is better" in str(error)
        return
    assert len({(pair["id"], pair["prompt"]) for pair in pairs}) == len(pairs), "one pair a caption"
    for pair in pairs:
        group = [r for r in rows if (r["id"], r["prompt"]) == (pair["id"], pair["prompt"]) and fine(r, "clap")]
        claps = [row["clap"] for row in group]
        assert pair["winner"]["clap"] == max(claps) and pair["loser"]["clap"] == min(claps)
        assert pair["winner"]["clap"] - pair["loser"]["clap"] == pair["margin"] > margin
    shuffled = rows.copy()
    order.shuffle(shuffled)
    assert select_pairs(shuffled, Extremes(margin=margin)) == pairs


# -- store and stream ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    return LatentStore(make_store(tmp_path_factory.mktemp("properties") / "store", n=11))


@given(index=st.lists(st.integers(0, 10), min_size=1, max_size=16))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_batch_is_its_rows_wherever_they_stand(store: LatentStore, index: list[int]) -> None:
    batch, alone = store.batch(index), [store.batch([i]) for i in index]
    assert batch.mean.shape == (len(index), L, D) and batch.index.tolist() == index
    for name in ("mean", "std", "text", "text_c", "score"):
        assert torch.equal(getattr(batch, name), torch.cat([getattr(one, name) for one in alone])), name
    for row, i in enumerate(index):
        id, caption = store.rows[i]["id"], store.captions[i]
        assert store.position(id, caption) == i
        np.testing.assert_allclose(batch.text_c[row], features(caption)[1], atol=2e-3)
        with pytest.raises(ValueError, match="has the caption"):
            store.position(id, caption + "!")


@given(n=st.integers(1, 9), seed=st.integers(0, 99), start=st.integers(0, 60), count=st.integers(0, 40))
@settings(deadline=None, max_examples=80)
def test_a_stream_is_a_function_of_seed_and_place(n: int, seed: int, start: int, count: int) -> None:
    rows = Stream(np.arange(n), seed).rows(0, start + count)
    assert Stream(np.arange(n), seed).rows(start, count) == rows[start:], "no walking to a place is needed"
    for first in range(0, len(rows) - n + 1, n):
        assert sorted(rows[first : first + n]) == list(range(n)), "each pass has every row once"


@given(world=st.integers(1, 4), size=st.integers(1, 3), batches=st.integers(1, 5), done=st.integers(0, 9))
@settings(deadline=None, max_examples=80)
def test_the_rows_of_an_update_do_not_depend_on_how_many_share_them(
    world: int, size: int, batches: int, done: int
) -> None:
    def epoch(rank: int, processes: int, each: int) -> list[list[int]]:
        return list(BatchStream(Stream(np.arange(7), 3), each, batches, lambda: done, rank, processes))

    alone = epoch(0, 1, size * world)
    together = [sum(parts, []) for parts in zip(*(epoch(rank, world, size) for rank in range(world)), strict=True)]
    assert together == alone and len(alone) == batches - done % batches
