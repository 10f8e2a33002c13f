"""A selected clip is trained once, and under the caption it was drawn for: candidates.jsonl beside it says which."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from small_world import make_candidates, make_data, make_store

from fluxlight.data import MixtureData, PairData
from fluxlight.files import read_jsonl, write_jsonl
from fluxlight.types import Candidate

KINDS: dict[str, Any] = {"experts": MixtureData, "pairs": PairData}


@pytest.fixture(params=KINDS)
def selection(request: Any, tmp_path: Path) -> Path:
    """experts.jsonl or pairs.jsonl, whose clips stand in candidates.jsonl beside it."""
    folder = make_candidates(tmp_path / "c", make_store(tmp_path / "store"))
    rows = read_jsonl(folder / "experts.jsonl")
    drawn = [(k, row, side) for k, row in enumerate(rows) for side in "ab"]
    write_jsonl(folder / "candidates.jsonl", [
        asdict(Candidate(row["id"], row["prompt"], 2 * k + (side == "b"), "x", "a.wav", f"latents/{k}{side}.npy"))
        for k, row, side in drawn
    ])  # fmt: skip
    return folder / f"{request.param}.jsonl"


def rows_of(selection: Path) -> Any:
    kind = selection.stem
    return make_data(selection.parents[1], KINDS[kind], **{kind: str(selection)}).rows()


def test_a_clip_of_another_caption_is_refused(selection: Path) -> None:
    """Ids and captions agree with the store, and the latent is another clip's."""
    rows_of(selection)
    good = read_jsonl(selection)
    other = good[2]["latent"] if "latent" in good[2] else good[2]["loser"]["latent"]
    for side in ("winner", "loser") if "winner" in good[1] else ("",):
        changed = {**good[1], side: {**good[1][side], "latent": other}} if side else {**good[1], "latent": other}
        write_jsonl(selection, [good[0], changed, good[3]])
        with pytest.raises(ValueError, match=rf"row 2: {other} was drawn for 'train-002', .* says 'train-001'"):
            rows_of(selection)
    moved = [{**row, **{key: next_row[key] for key in ("id", "prompt")}}
             for row, next_row in zip(good, [*good[1:], good[0]], strict=True)]  # fmt: skip
    write_jsonl(selection, moved)
    with pytest.raises(ValueError, match=r"row 1: latents/0a.npy was drawn for 'train-000'"):
        rows_of(selection)


def test_a_clip_that_stands_twice_is_refused(selection: Path) -> None:
    good = read_jsonl(selection)
    write_jsonl(selection, [*good, good[1]])
    with pytest.raises(ValueError, match=r"rows 2 and 5 are the same \(latents/1a.npy.*take one of them out"):
        rows_of(selection)
    # the same clips in other pairs are other pairs
    if "winner" in good[0]:
        write_jsonl(selection, [*good, {**good[1], "winner": good[1]["loser"], "loser": good[1]["winner"]}])
        assert len(rows_of(selection)) == 5
