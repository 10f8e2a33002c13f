"""Preparing a store at scale: bad rows, updates, shares, processes and kills leave the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_audio import RATE, Counting, content, folder_of, prepare, table, tone

from fluxlight.cli import main
from fluxlight.data import LatentStore
from fluxlight.data.preparation.pack import join
from fluxlight.data.sources import AudioFolder
from fluxlight.files import claim, read_jsonl


def source(folder: Path, **settings: object) -> AudioFolder:
    return AudioFolder(str(folder / "captions.tsv"), str(folder / "audio"), sample_rate=RATE, seconds=1.0, **settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven good files, and the store of an undisturbed run over them."""
    folder = folder_of(tmp_path_factory.mktemp("whole"))
    assert prepare(folder / "s", source(folder)) == 0
    return folder


def test_a_kill_between_any_two_clips_leaves_nothing_and_loses_nothing(whole: Path, tmp_path: Path) -> None:
    for stop in (1, 4, 6):
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path / "s", source(whole), Counting(stop), shard=2)
        assert not [path for path in (tmp_path / "s").rglob(".*") if path.name != ".lock"]
        codec = Counting()
        prepare(tmp_path / "s", source(whole), codec, shard=2)
        assert codec.clips == 7 - stop // 2 * 2, "what was finished is not done again"
        assert content(tmp_path / "s") == content(whole / "s"), "nor does the size of a unit show"
        shutil.rmtree(tmp_path / "s")


def test_shares_joined_in_any_order_are_the_store_of_one_run(whole: Path, tmp_path: Path) -> None:
    for i in (2, 0, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fluxlight.data.encode.UNIT", 2)
            prepare(tmp_path / f"s{i}", source(whole), shard=f"{i}/3")
    join(tmp_path / "joined", [tmp_path / f"s{i}" for i in (1, 2, 0)])
    assert content(tmp_path / "joined") == content(whole / "s")
    with pytest.raises(ValueError, match="share 1/3 is not among the stores: encode it with --shard 1/3"):
        join(tmp_path / "j", [tmp_path / "s2", tmp_path / "s0"])
    with pytest.raises(ValueError, match="hold the shares .*: give each of 2/3 once"):
        join(tmp_path / "j", [tmp_path / f"s{i}" for i in (1, 2, 0, 0)])
    with pytest.raises(ValueError, match="holds a store already"):
        join(tmp_path / "joined", [tmp_path / "s0"])
    for wrong in ("3/3", "0/0", "x", 0, "-1/2"):
        with pytest.raises(ValueError, match="give i/n with i from 0 to n - 1"):
            prepare(tmp_path / "s", source(whole), shard=wrong)
    with pytest.raises(ValueError, match="--shard 0/9 is empty: there are 1 units of work"):
        prepare(tmp_path / "s", source(whole), shard="0/9")


def test_two_processes_make_the_store_of_one(whole: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "s", source(whole), shard=2, jobs=2)
    assert content(tmp_path / "s") == content(whole / "s")


def spoil(folder: Path) -> dict[str, str]:
    """Files of every kind that cannot be used: id -> its kind in failed.jsonl."""
    audio = folder / "audio"
    (audio / "c1.wav").unlink()
    (audio / "c2.wav").write_bytes(b"")
    soundfile.write(audio / "c3.wav", np.zeros(RATE, np.float32), RATE)
    soundfile.write(audio / "c4.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    (audio / "c5.wav").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    return {"c1": "missing", "c2": "unreadable", "c3": "silent", "c4": "not finite", "c5": "unreadable"}


def test_bad_rows_cost_no_good_ones_and_mending_does_only_what_is_missing(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_of(tmp_path)
    kinds, codec = spoil(tmp_path), Counting()
    assert prepare(tmp_path / "s", source(tmp_path), codec) == 5 and codec.clips == 2
    assert "5 failed: 1 missing, 1 not finite, 1 silent, 2 unreadable" in capsys.readouterr().err
    failed = {row["id"]: row for row in read_jsonl(tmp_path / "s/failed.jsonl")}
    assert {id: row["kind"] for id, row in failed.items()} == kinds
    assert all(f"{id}.wav" in row["reason"] and "\n" not in row["reason"] for id, row in failed.items())
    assert "it is an empty file" in failed["c2"]["reason"] and "Git LFS pointer" in failed["c5"]["reason"]
    assert [row["id"] for row in LatentStore(tmp_path / "s").rows] == ["c0", "c6"]
    # two are mended, three are taken out of the table
    for number in (1, 3):
        soundfile.write(tmp_path / f"audio/c{number}.wav", tone(1.0, number), RATE)
    table(tmp_path, ["c0", "c1", "c3", "c6"])
    codec = Counting()
    assert prepare(tmp_path / "s", source(tmp_path), codec) == 0 and codec.clips == 2
    assert not (tmp_path / "s/failed.jsonl").exists()
    store, other = LatentStore(tmp_path / "s"), LatentStore(whole / "s")
    assert [row["id"] for row in store.rows] == ["c0", "c1", "c3", "c6"]
    for number, id in enumerate(("c0", "c1", "c3", "c6")):
        mine, theirs = store.batch([number]), other.batch([int(id[1])])
        assert (mine.mean == theirs.mean).all() and (mine.text == theirs.text).all() and mine.score == theirs.score
    codec = Counting()
    prepare(tmp_path / "s", source(tmp_path), codec)
    assert codec.clips == 0 and "nothing to do" in capsys.readouterr().err


def test_settings_under_which_nothing_could_be_made_may_be_mended(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    table(folder, ["c5", "c1"])
    with pytest.raises(ValueError, match="none of 2 rows can be encoded"):
        prepare(folder / "s", source(folder, suffix=".mp3"))
    prepare(folder / "s", source(folder))
    assert len(LatentStore(folder / "s")) == 2 and not (folder / "s/failed.jsonl").exists()


def test_a_changed_table_is_an_update_and_a_changed_recipe_is_refused_by_name(whole: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    table(folder, ["c5", "c1"])
    prepare(folder / "s", source(folder))
    before = content(folder / "s")
    table(folder, [f"c{number}" for number in range(7)])
    prepare(folder / "s", source(folder))
    updated, fresh = LatentStore(folder / "s"), LatentStore(whole / "s")
    assert [row for row in updated.rows] == [row for row in fresh.rows]
    assert updated.checksum == fresh.checksum
    assert set(content(folder / "s")) & set(before) == {"meta.json", "recipe.json"}, "the old files are gone"
    for settings, said in (
        ({"source": source(folder, start=0.1)}, "start = 0.0, now it is 0.1"),
        ({"source": source(folder, hop=0.5)}, "hop = None, now it is 0.5"),
        ({"source": source(folder, suffix=".mp3")}, "file_suffix = '.wav', now it is '.mp3'"),
        ({"source": source(folder), "prefix": "loud "}, "prefix = '', now it is 'loud '"),
        ({"source": source(folder), "precision": "float32"}, "precision = 'float16', now it is None"),
    ):
        with pytest.raises(ValueError, match=f"was made with {said}: choose another --out"):
            prepare(folder / "s", **settings)
    (folder / "audio2").mkdir()
    with pytest.raises(ValueError, match="was made with folder = "):
        prepare(folder / "s", AudioFolder(str(folder / "captions.tsv"), str(folder / "audio2"), sample_rate=RATE))
    # a caption is part of what a row is made from
    path = folder / "captions.tsv"
    path.write_text(path.read_text().replace("c3\ttune number 1", "c3\tsomething else"))
    codec = Counting()
    prepare(folder / "s", source(folder), codec)
    assert codec.clips == 1 and LatentStore(folder / "s").captions[3] == "something else"
    table(folder, ["c9"])
    shutil.copy(folder / "audio/c1.wav", folder / "audio/c9.wav")
    with pytest.raises(ValueError, match="holds none of the rows that are asked for: choose another --out"):
        prepare(folder / "s", source(folder))


def test_a_folder_in_use_is_refused_and_a_full_disk_is_said_before_the_first_clip(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = claim(tmp_path / "s")
    with pytest.raises(ValueError, match="is in use by another run"):
        prepare(tmp_path / "s", source(whole))
    lock.release()
    codec = Counting()
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: full)
    with pytest.raises(OSError, match=r"encoding 7 clips to .* needs 1\.3 kB, its disk has 1\.0 kB free: free some"):
        prepare(tmp_path / "s", source(whole), codec)
    assert codec.clips == 0 and not list((tmp_path / "s").rglob("*.npy"))


def test_a_disk_that_fills_up_while_packing_is_one_line_and_leaves_no_half_file(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fluxlight.data import columns

    def full(self: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(columns.ColumnWriter, "close", full)
        with pytest.raises(OSError, match="No space left on device"):
            prepare(tmp_path / "s", source(whole))
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [".lock", "recipe.json", "shards", "texts"]
    codec = Counting()
    prepare(tmp_path / "s", source(whole), codec)
    assert codec.clips == 0 and content(tmp_path / "s") == content(whole / "s")


def test_sigterm_leaves_no_half_file_and_the_same_command_goes_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["encode", "--out", str(tmp_path / "s"), "--shard", "2", "--source", "fluxlight.data.sources.AudioFolder"]
    given = {"captions": whole / "captions.tsv", "folder": whole / "audio", "sample_rate": RATE, "seconds": 1}
    words += [word for name, value in given.items() for word in (f"--source.{name}", str(value))]
    for part in ("codec", "text", "clap", "reward"):
        words += [f"--{part}", f"small_world.Small{part.capitalize()}"]
    with monkeypatch.context() as patch:
        # while a part is being written
        patch.setattr("fluxlight.data.preparation.parts.save_file", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        assert main(words) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in capsys.readouterr().err
    left = [path.name for path in (tmp_path / "s").rglob("*") if path.is_file()]
    assert sorted(left) == [".lock", "recipe.json"]
    assert main(words) == 0 and content(tmp_path / "s") == content(whole / "s")


def test_a_damaged_part_is_done_again(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "s", source(whole), Counting(6), shard=2)
    part = sorted((tmp_path / "s/shards").iterdir())[1]
    part.write_bytes(part.read_bytes()[:50])
    codec = Counting()
    prepare(tmp_path / "s", source(whole), codec, shard=2)
    assert codec.clips == 3 and content(tmp_path / "s") == content(whole / "s")
