"""Stores on disk: files of a limited size with checksums, columns beside them, versions, and reading that is safe."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import make_data, make_store

from fluxlight.bench import store as bench
from fluxlight.bench.measure import Settings
from fluxlight.cli import main
from fluxlight.data import LatentStore, columns
from fluxlight.data import store as stores
from fluxlight.data.builder import LatentStatistics
from fluxlight.data.columns import Column
from fluxlight.data.extend import append_column, verify
from fluxlight.data.preparation.pack import convert, join
from fluxlight.files import read_json, write_json


@pytest.fixture
def sharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of many small files, read row by row."""
    monkeypatch.setattr(columns, "SHARD_BYTES", 1000)
    monkeypatch.setattr(stores, "SMALL", 0)
    return make_store(tmp_path / "sharded")


def test_a_store_in_many_files_reads_as_one(sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LatentStore(sharded)
    assert len(list(sharded.glob("mean*.npy"))) == 5 and isinstance(store.mean, Column)
    monkeypatch.undo()
    one = LatentStore(make_store(tmp_path / "one"))
    assert isinstance(one.mean, np.ndarray) and len(list((tmp_path / "one").glob("mean*.npy"))) == 1
    for index in ([0, 23, 5, 5], list(range(24)), [-1 % 24]):
        mine, theirs = store.batch(index), one.batch(index)
        for name in ("mean", "std", "text", "text_c", "score"):
            assert torch.equal(getattr(mine, name), getattr(theirs, name)), name
    assert store.rows == one.rows and store.position("train-007") == 7 and store.statistics[0].tolist()
    again = pickle.loads(pickle.dumps(store))  # as a worker of a loader gets it
    assert torch.equal(again.batch([3]).mean, one.batch([3]).mean) and again.rows[4]["id"] == "train-004"


@pytest.mark.parametrize("name", ["mean", "tokens"])
def test_a_file_that_is_cut_short_is_one_line_and_no_bus_error(sharded: Path, name: str) -> None:
    path = sorted(sharded.glob(f"{name}*.npy"))[-1]
    opened = LatentStore(sharded)
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(ValueError, match=rf"{path.name} ends before row \d+: it was cut short"):
        opened.batch(list(range(24)))
    with pytest.raises(ValueError, match=f"{path.name} is missing or damaged"):
        LatentStore(sharded)
    (said,) = verify(sharded)
    assert path.name in said and "bytes of" in said


def test_a_changed_byte_is_found_by_the_checksums(sharded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "verify", str(sharded)]) == 0
    path = sorted(sharded.glob("std*.npy"))[1]
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert main(["store", "verify", str(sharded)]) == 1
    assert f"{path} has another content" in capsys.readouterr().err


def old_store(folder: Path) -> Path:
    """A store as version 1 wrote it."""
    make_store(folder)
    meta = {k: v for k, v in read_json(folder / "meta.json").items() if k not in ("files", "generation", "precision")}
    write_json(folder / "meta.json", {**meta, "version": 1})
    (folder / "rows.index.npy").unlink()
    return folder


def test_a_store_of_version_1_is_read_and_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = LatentStore(old_store(tmp_path / "old"))
    new = LatentStore(make_store(tmp_path / "new"))
    assert old.checksum == new.checksum and old.rows == new.rows and old.position("train-003") == 3
    assert main(["store", "convert", str(tmp_path / "old"), "--out", str(tmp_path / "made")]) == 0
    assert LatentStore(tmp_path / "made").checksum == new.checksum and not verify(tmp_path / "made")
    with pytest.raises(ValueError, match="is of this version already"):
        convert(tmp_path / "new", tmp_path / "x")
    with pytest.raises(ValueError, match="has no checksums"):
        verify(tmp_path / "old")
    write_json(tmp_path / "old/meta.json", {**read_json(tmp_path / "old/meta.json"), "version": 9})
    with pytest.raises(ValueError, match="has version 9, this fluxlight reads 1 and 2"):
        LatentStore(tmp_path / "old")


def test_a_column_is_appended_and_trained_on_and_nothing_is_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_store(tmp_path / "store")
    make_store(tmp_path / "slice", n=7, latents=False, prefix="slice")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.npy")}
    scores = {row["id"]: number / 10 for number, row in enumerate(LatentStore(folder).rows)}
    table = tmp_path / "scores.tsv"
    table.write_text("id\thindsight\n" + "".join(f"{id}\t{score}\n" for id, score in reversed(scores.items())))
    words = ["store", "column", str(folder), "--name", "hindsight", "--table", str(table)]
    assert main(words) == 0 and before == {path: path.stat().st_mtime_ns for path in before}
    data = make_data(tmp_path, score_column="hindsight")
    batch = data.store.batch([3, 17])
    assert batch.score is not None and batch.score.tolist() == pytest.approx([0.3, 1.7])
    assert LatentStore(folder).batch([3]).score != batch.score[:1]
    assert data.content()["store"] != make_data(tmp_path).content()["store"], "a run is of the scores it was trained on"
    assert not verify(folder) and list(LatentStore(folder).columns) == ["hindsight"]
    for wrong, said in (
        ({**scores, "x": 1.0}, "id 'x' is not in store"),
        ({k: v for k, v in scores.items() if k != "train-004"}, "id 'train-004' of store .* is not in scores"),
    ):
        table.write_text(json.dumps({id: {"other": score} for id, score in wrong.items()}))
        path = table.rename(tmp_path / "s.json")
        assert main(["store", "column", str(folder), "--name", "other", "--table", str(path)]) == 2
        import re

        assert re.search(said, capsys.readouterr().err)
    with pytest.raises(ValueError, match="has a column hindsight already"):
        append_column(folder, "hindsight", np.zeros(24), {})
    with pytest.raises(ValueError, match="has no column 'none' .there is hindsight.: append it with"):
        LatentStore(folder, "none")


def test_stores_that_were_made_differently_or_share_an_id_are_not_joined(tmp_path: Path) -> None:
    one, two = make_store(tmp_path / "one"), make_store(tmp_path / "two", prefix="more")
    assert join(tmp_path / "both", [one, two]) == 48
    both = LatentStore(tmp_path / "both")
    assert [part["rows"] for part in both.meta["made_of"]] == [24, 24] and both.position("more-003") == 27
    assert torch.equal(both.batch([27]).mean, LatentStore(two).batch([3]).mean)
    assert torch.equal(both.batch([27]).text, LatentStore(two).batch([3]).text)
    with pytest.raises(ValueError, match="id 'train-000' is in .*one and in .*again"):
        join(tmp_path / "x", [one, make_store(tmp_path / "again")])
    assert not (tmp_path / "x").exists()
    with pytest.raises(ValueError, match="was made with its has_std = False, .* with True"):
        join(tmp_path / "x", [one, make_store(tmp_path / "bare", std=False, prefix="bare")])
    with pytest.raises(ValueError, match="was made with n = 23"):
        join(tmp_path / "x", [one, make_store(tmp_path / "n", n=23, prefix="n")])


@given(cuts=st.lists(st.integers(1, 900), min_size=1, max_size=8), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=15)
def test_statistics_do_not_know_how_clips_came_together(cuts: list[int], seed: int) -> None:
    block = np.random.default_rng(seed).normal(size=(sum(cuts), 3, 2)).astype(np.float32)
    whole, pieces = LatentStatistics(), LatentStatistics()
    whole.add(block)
    for part in np.split(block, np.cumsum(cuts)[:-1]):
        pieces.add(part)
    assert all(np.array_equal(a, b) for a, b in zip(whole.found(), pieces.found(), strict=True))
    flat = block.reshape(-1, 2).astype(np.float64)
    assert np.allclose(whole.found()[0], flat.mean(0)) and np.allclose(whole.found()[1], flat.std(0))


def test_the_bench_holds_the_store_beside_npz_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LENGTH", 40), ("CHANNELS", 2), ("TOKENS", 7), ("WIDTH", 16), ("READS", 1)):
        monkeypatch.setattr(bench, name, value)
    lines = list(bench.lines(Settings(full=False)))
    assert [line.what.split(",")[0] for line in lines] == [
        *["a row", "random rows", "random rows"] * 2, "packing 20", "opening 20"]  # fmt: skip
    assert all(line.data["share"] < 0.6 for line in lines if "share" in line.data)
    assert all(line.data["ratio"] > 0 for line in lines if "ratio" in line.data)
    assert lines[-1].data["rows"] == 20_000 and 0 <= lines[-2].data["bytes_a_row"] < 1000
