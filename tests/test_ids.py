"""Ids are keys: doubles are refused, clips are found by them, nothing trains under a text it was not made for."""

from __future__ import annotations

import json
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from small_world import Letters, SmallJudge, T, features, make_candidates, make_data, make_store

from fluxlight import cli
from fluxlight.challenge.submission import check_zip, write_submission
from fluxlight.clips.folders import find_clips
from fluxlight.data import LatentStore, LatentStoreWriter, MixtureData, PairData, PromptFile
from fluxlight.data.encode import encode
from fluxlight.data.sources import AudioFolder
from fluxlight.files import mend_jsonl, read_jsonl, write_jsonl
from fluxlight.generate.render import file_names
from fluxlight.mining.pairs import BUILDERS, select_pairs
from fluxlight.prompts import read_prompts
from fluxlight.rewards.votes import read_votes
from fluxlight.tables import clip_name, first_double, same

RATE = 44_100


def test_a_store_is_neither_written_nor_opened_with_two_rows_of_one_id(tmp_path: Path) -> None:
    writer = LatentStoreWriter(tmp_path / "s", {})
    tokens, text_c = features("one")
    writer.write(0, [tokens, tokens], np.stack([text_c, text_c]))
    rows = [{"id": "t0", "caption": "one"}, {"id": "t0", "caption": "two"}]
    with pytest.raises(ValueError, match="id 't0' is given twice, in rows 1 and 2"):
        writer.finish(rows, 1, ([tokens, tokens], np.stack([text_c, text_c])), T, {})
    assert not writer.finished
    folder = make_store(tmp_path / "store")
    rows = read_jsonl(folder / "rows.jsonl")
    write_jsonl(folder / "rows.jsonl", [*rows[:-1], rows[3]])
    with pytest.raises(ValueError, match="id 'train-003' is given twice, in rows 4 and 24"):
        LatentStore(folder)


@pytest.mark.parametrize("kind", ["experts", "pairs"])
def test_a_selection_trains_only_under_the_caption_it_was_sampled_for(tmp_path: Path, kind: str) -> None:
    """Whichever side changes its words, the selection or the store, the row is refused and both captions are named."""
    store = make_store(tmp_path / "store")
    folder = make_candidates(tmp_path / "c", store)
    made = {"experts": MixtureData, "pairs": PairData}[kind]
    data = make_data(tmp_path, made, **{kind: str(folder / f"{kind}.jsonl")})
    rows = data.rows()
    generated = rows.experts if kind == "experts" else rows.winner
    said = [row["prompt"] for row in read_jsonl(folder / f"{kind}.jsonl")]
    assert [data.store.captions[k] for k in generated.positions] == said
    batch = generated.batch(range(len(said)))
    for k, caption in enumerate(said):
        assert np.allclose(batch.text_c[k], features(caption)[1]), "the text that is trained is the one it was made for"
    # another caption under the same id
    chosen = read_jsonl(folder / f"{kind}.jsonl")
    write_jsonl(folder / f"{kind}.jsonl", [chosen[0], {**chosen[1], "prompt": "loud drums"}, *chosen[2:]])
    with pytest.raises(ValueError, match="'train-001' has the caption 'train tune .*made for 'loud drums'"):
        data.rows()
    write_jsonl(folder / f"{kind}.jsonl", [{k: v for k, v in row.items() if k != "prompt"} for row in chosen])
    with pytest.raises(ValueError, match="row 1 has no prompt: run 'fluxlight select"):
        data.rows()
    # the same selection on a store whose captions have moved by one row
    write_jsonl(folder / f"{kind}.jsonl", chosen)
    clips = read_jsonl(store / "rows.jsonl")
    moved = [{**row, "caption": other["caption"]} for row, other in zip(clips, [*clips[1:], clips[0]], strict=True)]
    write_jsonl(store / "rows.jsonl", moved)
    with pytest.raises(ValueError, match="'train-000' has the caption"):
        make_data(tmp_path, made, **{kind: str(folder / f"{kind}.jsonl")}).rows()


def test_two_captions_under_one_id_are_never_one_pair() -> None:
    rows = [
        {"id": "t0", "prompt": prompt, "seed": seed, "checkpoint": "c", "clap": clap, "latent": f"{seed}.npy"}
        for seed, (prompt, clap) in enumerate([("drums", 0.9), ("piano", 0.1), ("piano", 0.4), ("drums", 0.5)])
    ]
    pairs = select_pairs(rows, BUILDERS["extremes"]())
    assert [(p["prompt"], p["winner"]["seed"], p["loser"]["seed"]) for p in pairs] == [("drums", 0, 3), ("piano", 2, 1)]


def tone(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.4 * np.sin(np.arange(10 * RATE) * 0.05), RATE, subtype="PCM_16")


NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_what_generate_names_evaluate_and_submit_find(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text(f"id\tcaption\n14/214\ta\n{NFD}\tb\nno 7\tc\n", encoding="utf-8")
    prompts = read_prompts(tmp_path / "p.tsv")
    ids, names = [p.id for p in prompts], file_names(prompts, "wav")
    assert names == ["14-214.wav", f"{NFC}.wav", "no-7.wav"]
    for name in names:
        tone(tmp_path / "clips" / name)
    assert [path.name for path in find_clips(tmp_path / "clips", ids)] == names
    out = write_submission(tmp_path / "clips", ids, tmp_path / "s.zip")
    with zipfile.ZipFile(out) as file:
        assert file.namelist() == ["14-214.wav", f"{NFD}.wav", "no 7.wav"], "a name that can be the id is the id"
    assert check_zip(out, ids) == []
    argv = ["submit", str(tmp_path / "clips"), "--prompts", str(tmp_path / "p.tsv"), "--out", str(tmp_path / "t.zip")]
    assert cli.main(argv) == 0
    with pytest.raises(ValueError, match="ids '14/214' and '14-214' name one clip"):
        find_clips(tmp_path / "clips", [*ids, "14-214"])


@pytest.mark.parametrize(("id", "name"), [(NFC, NFD), (NFD, NFC)])
def test_an_accent_may_be_one_letter_or_two(tmp_path: Path, id: str, name: str) -> None:
    """macOS hands out file names in NFD; tables are mostly NFC."""
    tone(tmp_path / "clips" / f"{name}.wav")
    assert [unicodedata.normalize("NFC", p.stem) for p in find_clips(tmp_path / "clips", [id])] == [NFC]
    (tmp_path / "c.tsv").write_text(f"{id}\ta tune\n", encoding="utf-8")
    source = AudioFolder(str(tmp_path / "c.tsv"), str(tmp_path / "clips"), seconds=1.0)
    assert source.audio(0, 1).abs().max() == pytest.approx(0.95, abs=1e-3)


@given(st.lists(st.text(max_size=4), max_size=8))
def test_the_first_double_is_where_a_set_stops_growing(ids: list[str]) -> None:
    found, keys = first_double(ids), [same(id) for id in ids]
    if found is None:
        assert len(set(keys)) == len(keys)
    else:
        before, again = found
        assert keys[before] == keys[again] and before < again and len(set(keys[:again])) == again


@given(st.text(max_size=8))
def test_a_clip_name_is_a_plain_name_and_its_own_name(id: str) -> None:
    name = clip_name(id)
    assert not set("/\\\0\n ") & set(name) and not name.startswith(".")
    assert clip_name(name) == name or not name.isascii()


def test_every_reader_takes_the_same_file(tmp_path: Path) -> None:
    prompts = [{"id": "14/214", "prompt": 'a "calm"\u2028piano'}, {"id": "2", "prompt": "drums, loud"}]
    files = {
        "p.json": json.dumps(prompts, ensure_ascii=False),
        "p.jsonl": "\ufeff" + "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in prompts),
        "p.TSV": 'ID\tCaption\r\n14/214\t"a ""calm""\u2028piano"\r\n2\tdrums, loud\r\n',
        "p.csv": '\ufeffprompt,id\n"a ""calm""\u2028piano",14/214\n"drums, loud",2\n',
    }
    wanted = [(row["id"], row["prompt"]) for row in prompts]
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content.encode())
        assert [(p.id, p.prompt) for p in read_prompts(path)] == wanted
        for source in (AudioFolder(str(path)), PromptFile(str(path))):
            assert [(row["id"], row["caption"]) for row in source.rows] == wanted
    out = tmp_path / "slice"
    encode(str(out), None, Letters(), SmallJudge(), None, source=AudioFolder(str(tmp_path / "p.csv")), text_only=True)
    assert [(p.id, p.prompt) for p in read_prompts(out)] == wanted, "a store is a list of prompts too"
    votes = {"a": "0.wav", "b": "1.wav", "winner": "B", "prompt": "x, y"}
    (tmp_path / "v.jsonl").write_text(json.dumps(votes))
    (tmp_path / "v.TSV").write_text("winner\tb\ta\tprompt\nB\t1.wav\t0.wav\tx, y\n")
    assert {vote.target for name in ("v.jsonl", "v.TSV") for vote in read_votes(tmp_path / name)} == {0.0}


@pytest.mark.parametrize("name", ["c.tsv", "c.csv"])
def test_a_table_that_cannot_be_read_begins_no_store(tmp_path: Path, name: str) -> None:
    for content in ("", "id\tcaption\n" if name == "c.tsv" else "id,caption\n"):
        (tmp_path / name).write_text(content)
        words = ["--source", "fluxlight.data.sources.AudioFolder", "--source.captions", str(tmp_path / name)]
        for _ in range(2):
            assert cli.main(["encode", "--out", str(tmp_path / "s"), *words, "--text_only", "true"]) == 2
        assert not (tmp_path / "s").exists()


def test_a_line_cut_within_a_letter_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"id": "a"}, {"id": NFC}])
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index("é".encode()) + 1])
    assert mend_jsonl(path) == [{"id": "a"}] and path.read_bytes() == b'{"id": "a"}\n'
    path.write_bytes(b'[1]\n{"id": "a"}\n')
    with pytest.raises(ValueError, match="line 1 is no object"):
        read_jsonl(path)
