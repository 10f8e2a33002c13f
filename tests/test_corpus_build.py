"""Building the corpus: prefixes, resuming after a kill, corrupt shards, processes, a full disk."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from fluxlight.embedded.corpus import CorpusSpec, build, render_row

pytest.importorskip("music21")


@pytest.fixture
def small_shards(monkeypatch):
    import importlib

    module = importlib.import_module("fluxlight.embedded.corpus.build")
    monkeypatch.setattr(module, "SHARD", 2)
    return module


def test_smaller_split_is_prefix_and_builds_extend(tmp_path, small_shards):
    small = build(CorpusSpec(sizes={"train": 3, "val": 1}), tmp_path, jobs=1, progress=False)
    first = small.audio("train")[:]
    stamp = (small.folder / "train" / "shard-0000.npy").stat().st_mtime_ns
    large = build(CorpusSpec(sizes={"train": 5, "val": 1}), tmp_path, jobs=1, progress=False)
    assert large.rows("train")[:3] == small.rows("train") and len(large.audio("train")) == 5
    assert np.array_equal(large.audio("train")[:3], first)
    assert (large.folder / "train" / "shard-0000.npy").stat().st_mtime_ns == stamp
    row = large.rows("train")[4]
    assert np.abs(render_row(row) - large.audio("train")[4]).max() < 1e-4
    assert np.array_equal(large.audio("train")[[4, 0]][1], first[0])
    again = build(CorpusSpec(sizes={"train": 3, "val": 1}), tmp_path, jobs=1, progress=False)
    assert again.checksum == small.checksum != large.checksum
    with pytest.raises(IndexError):
        small.audio("train")[3]
    with pytest.raises(ValueError, match="no split 'slice'"):
        small.rows("slice")


def test_corrupt_and_unfinished_shards_are_made_again(tmp_path, small_shards, capsys):
    spec = CorpusSpec(sizes={"slice": 5})
    built = build(spec, tmp_path, jobs=1, progress=False)
    audio = built.audio("slice")[:].copy()
    folder: Path = built.folder / "slice"
    broken = bytearray((folder / "shard-0001.npy").read_bytes())
    broken[5000] ^= 1
    (folder / "shard-0001.npy").write_bytes(broken)
    (folder / "shard-0002.json").unlink()  # killed between the audio and its sheet
    (folder / "shard-0000.json").write_text('{"sha256": "12')
    capsys.readouterr()
    again = build(spec, tmp_path, jobs=1, progress=False)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2 and all("corrupt" in line and "rendering it again" in line for line in lines)
    assert np.array_equal(again.audio("slice")[:], audio) and again.checksum == built.checksum


def test_jobs_do_not_change_the_audio(tmp_path):
    spec = CorpusSpec(seed=5, sizes={"slice": 2, "judge_val": 2})
    two = build(spec, tmp_path / "two", jobs=2, progress=False)
    one = build(spec, tmp_path / "one", jobs=1, progress=False)
    for split in spec.sizes:
        assert np.array_equal(two.audio(split)[:], one.audio(split)[:])
    assert two.checksum == one.checksum


def test_full_disk_is_one_clear_line(tmp_path, small_shards, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(small_shards.np, "save", full)
    with pytest.raises(OSError, match="disk full while writing the corpus") as caught:
        build(CorpusSpec(sizes={"slice": 1}), tmp_path, jobs=1, progress=False)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.npy"))
