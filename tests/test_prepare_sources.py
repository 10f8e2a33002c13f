"""Sources: published layouts to rows, segments of long files by the stated rule, features taken over."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from small_audio import RATE, Counting, prepare, tone
from small_world import C, D, E, L, T

from fluxlight.cli import main
from fluxlight.clips import read
from fluxlight.clips.found import LeftAside
from fluxlight.clips.read import read_windows
from fluxlight.data import LatentStore
from fluxlight.data.sources import AudioFolder, ChallengeList, Jamendo, NpzFolder, SegmentTable, SongDescriber
from fluxlight.files import read_jsonl

SMALL = {"sample_rate": RATE, "seconds": 1.0}


def write(path: Path, seconds: float, number: int = 0, rate: int = RATE) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = tone(seconds, number, rate)
    soundfile.write(path, wave, rate, subtype="FLOAT")
    return wave


@pytest.mark.parametrize(
    ("settings", "begins"),
    [
        ({}, [0]),
        ({"start": 1.5}, [1.5]),
        ({"hop": 1.0}, [0, 1, 2]),
        ({"hop": 0.5}, [0, 0.5, 1, 1.5, 2, 2.5]),
        ({"hop": 0.5, "most": 2}, [0, 2.5]),
        ({"hop": 1.0, "start": 0.25, "end": 3.0}, [0.25, 1.25]),
        ({"hop": 1.0, "start": 3.0}, [3.0]),
    ],
)
def test_a_long_file_is_cut_by_the_stated_rule(tmp_path: Path, settings: dict, begins: list[float]) -> None:
    wave = write(tmp_path / "audio/a.wav", 3.5)
    (tmp_path / "c.tsv").write_text("id\tcaption\na\ttune\n")
    source = AudioFolder(str(tmp_path / "c.tsv"), str(tmp_path / "audio"), **SMALL, **settings)
    (track,) = source.tracks
    rows = [row for row, _ in source.clips(track)]
    assert [row.get("start", source.start) for row in rows] == begins
    assert [row["id"] for row in rows] == ([f"a_{k}" for k in range(len(begins))] if "hop" in settings else ["a"])
    for begin, (_, clip) in zip(begins, source.read(track, rows), strict=True):
        wanted = wave[round(begin * RATE) :][:RATE]
        assert clip.shape == (RATE,) and float(clip.abs().max()) == pytest.approx(0.95)
        assert torch.allclose(clip[: len(wanted)], torch.from_numpy(wanted * 0.95 / np.abs(wanted).max()), atol=1e-6)
        assert not clip[len(wanted) :].any(), "what is short is padded with silence"


def test_a_short_file_is_left_out_by_rule_or_padded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, seconds in enumerate((0.3, 0.7, 2.0)):
        write(tmp_path / f"audio/{number}.wav", seconds, number)
    (tmp_path / "c.tsv").write_text("id\tcaption\n0\ta\n1\tb\n2\tc\n")
    make = lambda **more: AudioFolder(str(tmp_path / "c.tsv"), str(tmp_path / "audio"), **SMALL, **more)  # noqa: E731
    assert prepare(tmp_path / "s", make(shortest=0.5)) == 0, "nothing is to be mended"
    assert "1 left out: 1 too short" in capsys.readouterr().err
    assert [row["id"] for row in LatentStore(tmp_path / "s").rows] == ["1", "2"]
    (row,) = read_jsonl(tmp_path / "s/failed.jsonl")
    assert row["id"] == "0" and row["by_rule"] and "has 0.30 s" in row["reason"]
    assert prepare(tmp_path / "all", make()) == 0 and len(LatentStore(tmp_path / "all")) == 3


def test_windows_of_another_rate_are_those_of_the_whole_and_a_file_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = write(tmp_path / "a.wav", 4.0, rate=11025)
    whole, heard = soxr.resample(wave, 11025, RATE), []
    monkeypatch.setattr(read, "BLOCK", 1000)
    blocks = read._blocks
    monkeypatch.setattr(read, "_blocks", lambda file: (heard.append(len(b)) or b for b in blocks(file)))
    begins = [0.0, 0.4, 2.0, 2.8]
    for begin, piece in zip(begins, read_windows(tmp_path / "a.wav", begins, 1.0, RATE), strict=True):
        start = round(begin * RATE)
        assert len(piece.wave) == RATE and np.abs(piece.wave - whole[start : start + RATE]).max() < 2e-3
    assert sum(heard) <= len(wave), "four windows, one decoding"


def jamendo(folder: Path) -> Path:
    """Three tracks as the data set has them: tags fill the rest of a line."""
    for number, name in enumerate(("14/214", "41/241", "82/382")):
        write(folder / f"audio/{name}.wav", 2.0, number)
        write(folder / f"audio/{name}_instrumental.wav", 2.0, number + 5)
    lines = ["TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS",
             "track_0000214\tartist_1\talbum_1\t14/214.mp3\t124.6\tgenre---punkrock",
             "track_0000241\tartist_1\talbum_1\t41/241.mp3\t100.0\tgenre---rock\tinstrument---guitar\tmood/theme---sad",
             "track_0000382\tartist_2\talbum_2\t82/382.mp3\t90.1\tgenre---classical"]  # fmt: skip
    (folder / "autotagging.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_mtg_jamendo_as_it_is_published(tmp_path: Path) -> None:
    folder = jamendo(tmp_path)
    given = {"table": str(folder / "autotagging.tsv"), "folder": str(folder / "audio"), **SMALL}
    prepare(folder / "s", Jamendo(**given, suffix=".wav", hop=1.0))
    store = LatentStore(folder / "s")
    names = ("14/214", "41/241", "82/382")
    assert [row["id"] for row in store.rows] == [f"{name}_{k}" for name in names for k in (0, 1)]
    assert store.captions[2] == "rock, guitar, sad" and len(store.text_c) == 2 + 3, "a text is stored once"
    rows = [{"path": "41/241.mp3", "caption": "a song"}, {"path": "track_0000382", "caption": "b"}]
    (folder / "c.json").write_text(json.dumps(rows))
    stems = Jamendo(**given, captions=str(folder / "c.json"), suffix="_instrumental.wav")
    assert [(track.path, track.rows[0]["caption"]) for track in stems.tracks] == [
        ("41/241_instrumental.wav", "a song"), ("82/382_instrumental.wav", "b")]  # fmt: skip
    (folder / "c.json").write_text(json.dumps([*rows, {"path": "41/999.mp3", "caption": "c"}]))
    with pytest.warns(LeftAside, match=r"1 of 3 captions were not used \(id '41/999.mp3' is no track of"):
        assert len(Jamendo(**given, captions=str(folder / "c.json")).tracks) == 2
    (folder / "c.json").write_text('[{"path": "41/999.mp3", "caption": "a song"}]')
    with pytest.raises(ValueError, match=r"c\.json line 1: id '41/999.mp3' is no track of"):
        Jamendo(**given, captions=str(folder / "c.json"))
    (folder / "autotagging.tsv").write_text("TRACK_ID\tPATH\tTAGS\nt\t14/214.mp3\n")
    with pytest.raises(ValueError, match="line 2: 2 cells where the first line names 3 columns"):
        Jamendo(**given)


def test_song_describer_has_several_captions_a_track_and_encodes_it_once(tmp_path: Path) -> None:
    write(tmp_path / "audio/34/1004034.2min.wav", 1.0)
    write(tmp_path / "audio/74/1007274.2min.wav", 1.0, 1)
    (tmp_path / "sd.csv").write_text(
        "caption_id,track_id,caption,is_valid_subset,familiarity,artist_id,album_id,path,duration\n"
        '859,1004034,"electronic, with a ""retro"" drum",True,0,1,1,34/1004034.mp3,202.5\n'
        "990,1007274,acoustic guitar,True,1,2,2,74/1007274.mp3,140.2\n"
        "860,1004034,bubbly synths,,0,1,1,34/1004034.mp3,202.5\n"
    )
    given = {"table": str(tmp_path / "sd.csv"), "folder": str(tmp_path / "audio"), "suffix": ".2min.wav", **SMALL}
    codec = Counting()
    prepare(tmp_path / "s", SongDescriber(**given), codec)
    store = LatentStore(tmp_path / "s")
    assert [row["id"] for row in store.rows] == ["859", "860", "990"] and codec.clips == 2
    assert store.captions[0] == 'electronic, with a "retro" drum'
    batch = store.batch([0, 1, 2])
    assert torch.equal(batch.mean[0], batch.mean[1]) and not torch.equal(batch.text[0], batch.text[1])
    assert [row["id"] for row in SongDescriber(**given, valid_only=True).rows] == ["859", "990"]


def test_the_challenge_list_names_files_by_path_and_may_name_one_twice(tmp_path: Path) -> None:
    write(tmp_path / "audio/14/214.wav", 1.0)
    path = tmp_path / "list.json"
    path.write_text('[{"path": "14/214.wav", "caption": "punk"}, {"path": "14/214.wav", "caption": "rock"}]')
    prepare(tmp_path / "s", ChallengeList(str(path), folder=str(tmp_path / "audio"), **SMALL))
    assert [row["id"] for row in LatentStore(tmp_path / "s").rows] == ["14/214.wav", "14/214.wav#2"]
    write(tmp_path / "audio/14/214_stem.wav", 1.0)
    stem = ChallengeList(str(path), suffix="_stem.wav", folder=str(tmp_path / "audio"), **SMALL)
    assert [track.path for track in stem.tracks] == ["14/214_stem.wav"] and len(stem.rows) == 2
    for rows, said in (
        ('[{"path": "a", "caption": "x"}, {"path": "a", "caption": "x"}]', "row 2: 'a' has this caption already"),
        ('[{"path": "a.wav"}]', "caption is missing"),
        ('[{"caption": "x"}]', "path is missing"),
        ('["x"]', "each row has path and caption"),
        ('[{"path": "../x.wav", "caption": "x"}]', "leads out of"),
    ):
        path.write_text(rows)
        with pytest.raises(ValueError, match=said):
            prepare(tmp_path / "t", ChallengeList(str(path), folder=str(tmp_path / "audio"), **SMALL))


def test_segment_tables_say_where_clips_are(tmp_path: Path) -> None:
    wave = write(tmp_path / "audio/a.wav", 3.0)
    (tmp_path / "c.tsv").write_text("id\tcaption\na\twhole file\na_1\tits own\n")
    (tmp_path / "seg.tsv").write_text(
        f"id\tname\tstart_sample\tend_sample\na_0\ta\t0\t{RATE}\n"
        f"a_1\ta\t{RATE * 3 // 2}\t{2 * RATE}\na_2\ta\t{9 * RATE}\t{10 * RATE}\n"
    )
    given = {"table": str(tmp_path / "seg.tsv"), "captions": str(tmp_path / "c.tsv"), "folder": str(tmp_path / "audio")}
    source = SegmentTable(**given, **SMALL)
    assert prepare(tmp_path / "s", source) == 1, "one begins behind the end, and costs no other"
    assert [row["id"] for row in LatentStore(tmp_path / "s").rows] == ["a_0", "a_1"]
    assert LatentStore(tmp_path / "s").captions == ["whole file", "its own"]
    assert "begins at 9.00" in read_jsonl(tmp_path / "s/failed.jsonl")[0]["reason"]
    rows = [row for row, key in source.clips(source.tracks[0]) if isinstance(key, bytes)]
    (_, clip), (_, half) = source.read(source.tracks[0], rows)
    assert torch.allclose(clip, torch.from_numpy(wave[:RATE] * 0.95 / np.abs(wave[:RATE]).max()), atol=1e-6)
    assert not half[RATE // 2 :].any() and half[: RATE // 2].any(), "half a second was asked for"
    (tmp_path / "seg.tsv").write_text("id\tname\tstart_sample\tend_sample\nb_0\tb\t5\t5\n")
    with pytest.raises(ValueError, match="line 2: start_sample 5 is not before end_sample 5"):
        SegmentTable(**given, **SMALL)


def test_npz_features_are_taken_over_as_they_are(tmp_path: Path) -> None:
    rng, made = np.random.default_rng(0), []
    (tmp_path / "npz").mkdir()
    for number in range(3):
        text = np.random.default_rng(min(number, 1))
        made.append({"mean": rng.normal(size=(L, D)), "std": rng.uniform(size=(L, D)),
                     "text_features": text.normal(size=(T, E)), "text_features_c": text.normal(size=C)})  # fmt: skip
        np.savez(tmp_path / f"npz/{number}.npz", **{key: value.astype(np.float32) for key, value in made[-1].items()})
    head = "id\tcaption\tinstrumental_reward_score\n"
    (tmp_path / "npz.tsv").write_text(head + "t0\ta\t0.5\nt1\tb\t-1\nt2\tb\t2\nt3\tc\t0\n")
    codec = Counting()
    assert prepare(tmp_path / "s", NpzFolder(str(tmp_path / "npz")), codec) == 1 and codec.clips == 0
    (row,) = read_jsonl(tmp_path / "s/failed.jsonl")
    assert row["id"] == "t3" and row["kind"] == "missing"
    store = LatentStore(tmp_path / "s")
    batch = store.batch([0, 1, 2])
    assert batch.score is not None and batch.score.tolist() == [0.5, -1, 2] and len(store.text_c) == 2 + 2
    for number, arrays in enumerate(made):
        for got, wanted in ((batch.mean, "mean"), (batch.std, "std"), (batch.text, "text_features"),
                            (batch.text_c, "text_features_c")):  # fmt: skip
            torch.testing.assert_close(got[number].double(), torch.from_numpy(arrays[wanted]), atol=2e-3, rtol=1e-3)
    (tmp_path / "npz.tsv").write_text(head + "t0\ta\tloud\n")
    with pytest.raises(ValueError, match="npz.tsv line 2: instrumental_reward_score is 'loud'"):
        NpzFolder(str(tmp_path / "npz"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"hop": 0}, "source.hop is 0"), ({"most": 3}, "source.most is 3, but without source.hop"),
     ({"start": -1}, "source.start is -1"), ({"start": 2.0, "end": 1.0}, "source.end is 1.0"),
     ({"seconds": 0}, "source.seconds is 0"), ({"hop": float("nan")}, "source.hop is nan")],
)  # fmt: skip
def test_settings_that_cannot_be_are_named(tmp_path: Path, settings: dict, said: str) -> None:
    (tmp_path / "c.tsv").write_text("id\tcaption\na\ttune\n")
    with pytest.raises(ValueError, match=said):
        AudioFolder(str(tmp_path / "c.tsv"), str(tmp_path), **settings)
    with pytest.raises(FileNotFoundError, match="source.folder .* is no folder"):
        AudioFolder(str(tmp_path / "c.tsv"), str(tmp_path / "none"))


def test_the_command_line_takes_a_source_with_its_cuts_and_counts_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = jamendo(tmp_path)
    source = {"table": folder / "autotagging.tsv", "folder": folder / "audio", "suffix": ".wav", "hop": 0.5, "most": 3,
              "seconds": 1, "sample_rate": RATE}  # fmt: skip
    words = ["--shard", "0/1", "--source", "fluxlight.data.sources.Jamendo"]
    words += [word for name, value in source.items() for word in (f"--source.{name}", str(value))]
    for part in ("codec", "text", "clap", "reward"):
        words += [f"--{part}", f"small_world.Small{part.capitalize()}"]
    assert main(["encode", "--out", str(tmp_path / "s"), *words]) == 0
    assert len(LatentStore(tmp_path / "s")) == 9
    (folder / "audio/41/241.wav").rename(folder / "audio/41/241.WAV")
    assert main(["encode", "--out", str(tmp_path / "t"), *words]) == 1
    said = capsys.readouterr().err
    assert "1 failed: 1 missing" in said and len(LatentStore(tmp_path / "t")) == 6
    assert "there is 241.WAV: rename it, or give its suffix" in read_jsonl(tmp_path / "t/failed.jsonl")[0]["reason"]
