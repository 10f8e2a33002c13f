"""Tables: one reader for captions, prompts, votes, ranks and scores; what does not fit is one line that names it."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxlight import tables
from fluxlight.tables import name_texts, read_ids, read_prompt_rows, read_results, read_values, read_vote_rows

ROOT = Path(__file__).resolve().parents[1]
TWO = [("t0", "a calm piano"), ("t1", "drums, loud")]


def read(path: Path) -> list[tuple[str, str]]:
    return [(row.id, row.prompt) for row in read_prompt_rows(path)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.tsv", "id\tcaption\nt0\ta calm piano\nt1\tdrums, loud\n"),
        ("p.tsv", "\ufeffid\tcaption\nt0\ta calm piano\nt1\tdrums, loud"),
        ("p.tsv", "\ufefft0\ta calm piano\nt1\tdrums, loud\n"),
        ("p.TSV", "ID\t Caption \r\nt0\ta calm piano\r\nt1\tdrums, loud\r\n"),
        ("p.tsv", "score\tcaption\tname\n.5\ta calm piano\tt0\n.5\tdrums, loud\t t1 \n"),
        ("p.tsv", 'id\tcaption\nt0\t"a calm piano"\n\n"t1"\tdrums, loud\n\t\n'),
        ("p.tsv", "id,caption\nt0,a calm piano\nt1,'drums, loud'\n".replace("'", '"')),
        ("p.csv", 'id,prompt\rt0,a calm piano\rt1,"drums, loud"\r'),
        ("p.csv", 'id;prompt\nt0;a calm piano\nt1;"drums, loud"\n'),
        ("p.csv", 'Prompt,,Id,\n"a calm piano",,"t0",\n"drums, loud",,t1,\n'),
        ("p.json", '\ufeff[{"id": "t0", "prompt": "a calm piano"},\n {"prompt": "drums, loud", "ID": "t1"}]\n'),
        ("p.JSON", '{"t0": "a calm piano", "t1": "drums, loud"}'),
        ("p.jsonl", '{"id": "t0", "caption": "a calm piano"}\r\n\n{"Id": "t1", "Caption": "drums, loud"}'),
    ],
)
def test_one_table_in_many_ways(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert read(tmp_path / name) == TWO
    assert read_ids(tmp_path / name) == ["t0", "t1"]


@pytest.mark.parametrize("letter", ["\u2028", "\u2029", "\x85", "\x0c", "\x0b", "\x1c"])
def test_only_line_ends_end_a_line(tmp_path: Path, letter: str) -> None:
    text = f"a{letter}b"
    for name, content in (
        ("p.tsv", f"id\tcaption\nt0\t{text}\n"),
        ("p.csv", f"id,caption\nt0,{text}\n"),
        ("p.json", json.dumps({"t0": text}, ensure_ascii=False)),
        ("p.jsonl", json.dumps({"id": "t0", "prompt": text}) + "\n"),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert read(tmp_path / name) == [("t0", text)]
    (tmp_path / "p.txt").write_text(f"{text}\nnext\n", encoding="utf-8")
    assert [prompt for _, prompt in read(tmp_path / "p.txt")] == [text, "next"]


def test_a_raw_quote_of_a_tsv_is_a_letter_and_a_quoted_cell_is_what_it_quotes(tmp_path: Path) -> None:
    cells = {
        '"Lo-fi beats for study': '"Lo-fi beats for study',
        '"Lo-fi" beats': '"Lo-fi" beats',
        'a 12" vinyl': 'a 12" vinyl',
        '"a ""punk"" track"': 'a "punk" track',
        '"two\nlines"': "two\nlines",
    }
    rows = "".join(f"t{k}\t{cell}\n" for k, cell in enumerate(cells))
    (tmp_path / "p.tsv").write_text("id\tcaption\n" + rows)
    found = read_prompt_rows(tmp_path / "p.tsv")
    assert [row.prompt for row in found] == list(cells.values())
    assert [row.line for row in found] == [2, 3, 4, 5, 6], "lines of the file, not rows"


def test_texts_without_ids_are_named_by_their_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"id": "a", "prompt": "x"}\n{"id": "b", "prompt": "y"}\n'))
    assert [(row.id, row.prompt) for row in read_prompt_rows("-")] == [("a", "x"), ("b", "y")]
    named = [("a-flute", "a flute"), ("a-flute-2", "A  flute!")]
    assert name_texts(["a flute", "A  flute!"]) == named
    (tmp_path / "p.json").write_text('["a flute", "A  flute!"]')
    (tmp_path / "p.csv").write_text("caption\na flute\nA  flute!\n")
    assert read(tmp_path / "p.json") == read(tmp_path / "p.csv") == named


Reader = Callable[[Path], Any]


def scores(path: Path) -> Any:
    return read_values(path, "scores m", "id")


HEAD, VOTE = "id\tcaption\n", "a,b,winner,prompt,system_a,system_b\n"
BAD: list[tuple[Reader, str, str | bytes, str]] = [
    # encodings
    (read, "p.tsv", "id\tcaption\nt0\tx\nt1\tcafé\n".encode("latin-1"), "line 3: byte 0xe9 is not UTF-8"),
    (read, "p.csv", "\ufeffid,prompt\r\nt0,caf".encode() + b"\xe9", "line 2: byte 0xe9 is not UTF-8"),
    (read, "p.txt", "a piano".encode("utf-16"), "line 1: is UTF-16"),
    (read, "p.json", '["a"]'.encode("utf-16-le"), "line 1: holds a zero byte"),
    (read, "p.txt", "a\nb\0\n", "line 2: holds a zero byte"),
    # cells
    (read, "p.csv", "id,prompt\nt0,drums, loud\n", "line 2: 3 cells where the first line names 2"),
    (read, "p.csv", "id,prompt\nt0,x\nt1\n", "line 3: 1 cell where the first line names 2"),
    (read, "p.tsv", HEAD + "t0\tx\ty\n", "line 2: 3 cells where the first line names 2 columns: quote a text that"),
    (read, "p.tsv", "t0\tx\nt1\n", "line 2: 1 cell where a table without column names has two"),
    (read, "p.csv", 'id,prompt\nt0,x\nt1,"open\nt2,y\n', "line 3: the quote that opens a cell here is not closed"),
    (read, "p.csv", 'id,prompt\nt0,"x" y\n', "line 2: the quote that opens a cell here is not closed"),
    (read, "p.tsv", HEAD + 't0\t"open\nt1\tclosed"\n', "line 2: a quote opens here and closes on line 3 behind a tab"),
    (read, "p.csv", "id,prompt,\nt0,x,y\n", "line 2: a cell stands below no name"),
    (read, "p.csv", "id,prompt,prompt\nt0,x,y\n", "line 1: the column prompt is named twice"),
    (read, "p.csv", "id,prompt,Prompt\nt0,x,y\n", "line 2: prompt is there 2 times"),
    # columns
    (read, "p.csv", "id,text\nt0,x\n", "line 1: the first line must name a column prompt"),
    (read, "p.tsv", "id\ttext\nt0\tx\n", "line 1: the first line names no column prompt"),
    (read, "p.json", '[{"id": 1, "text": "x"}]', "row 1: has no text under prompt or caption"),
    # prompts
    (read, "p.tsv", HEAD + "t0\tx\nt1\t  \n", "line 3: the prompt is empty"),
    (read, "p.json", '[{"id": 1,\n "prompt": null}]', "line 1 row 1: has no text"),
    (read, "p.json", '[{"id": 1, "prompt": 3.5}]', "there is 3.5"),
    (read, "p.json", '{"id": "a", "prompt": "x"}', "one row alone: put it into a list"),
    (read, "p.json", '[{"id": 1, "prompt": "\\ud800"}]', "holds half a character"),
    (read, "p.tsv", HEAD, "holds no prompts"),
    (read, "p.tsv", "", "holds no prompts"),
    (read, "p.json", "[]", "holds no prompts"),
    (read, "p.txt", " \n\n", "holds no prompts"),
    # ids
    (read, "p.tsv", HEAD + "t0\tx\nt1\ty\n\nt0\tz\n", "line 5: id 't0' is given twice, first on line 2"),
    (read, "p.json", '{"cafe\u0301": "x", "caf\u00e9": "y"}', "is given twice, with its accent written otherwise"),
    (read, "p.json", '{"a": "x",\n "a": "y"}', "line 2: 'a' is given twice, first on line 1"),
    (read, "p.csv", "id,prompt\nt0,x\n,y\n", "line 3: has no id though other rows have"),
    (read, "p.csv", 'id,prompt\n"t\n0",x\n', "line 2: id 't\\n0' holds a line end"),
    (read, "p.json", '[{"id": [1], "prompt": "x"}]', "id is [1]: write a text"),
    (read, "p.json", '[{"id": true, "prompt": "x"}]', "id is True: write a text"),
    # JSON
    (read, "p.json", '[{"id": 1,\n "prompt": "x"', "line 2: is not valid JSON"),
    (read, "p.json", '["x"\n "y"]', "line 2: is not valid JSON ('\"' where ',' must stand)"),
    (read, "p.json", '["x"] ["y"]', "more than one value"),
    (read, "p.json", '"x"', "is JSON but no table"),
    (read, "p.json", "[" * 100_000, "line 1: is not JSON that can be read"),
    (read, "p.json", '[{"id": 1, "id": 2, "prompt": "x"}]', "'id' is named twice in one row"),
    (read, "p.json", '["x", {"prompt": "y"}]', "row 2: is {'prompt': 'y'}"),
    (read, "p.json", '[{"prompt": "y"}, "x"]', "row 2: is a text where other rows are objects"),
    (read, "p.jsonl", '{"id": 1, "prompt": "x"}\n{"id": 2, "pro', "line 2: is not valid JSON"),
    (read, "p.jsonl", '{"id": 1, "prompt": "x"} {}\n', "line 1: is not valid JSON (more than one value)"),
    (read, "p.jsonl", '\n[1, 2]\n', "line 2: is [1, 2] and has no text"),
    (read_ids, "p.json", '[{"name_": 1}]', "row 1: has no id"),
    # votes
    (read_vote_rows, "v.csv", VOTE + "0,1,a,Trombone, slow,,\n", "line 2: 7 cells where the first line names 6"),
    (read_vote_rows, "v.csv", 'a,b,winner,prompt\n0,1,a,"two\nlines"\n2,3,left,y\n', "line 4: winner is 'left'"),
    (read_vote_rows, "v.csv", "a,b\n0.wav,1.wav\n", "line 1: the column winner is missing"),
    (read_vote_rows, "v.csv", "a,b,winner\n0,,a\n", "line 2: b is missing"),
    (read_vote_rows, "v.csv", VOTE + "0.wav,./0.wav,a,,,\n", "line 2: a and b are one clip"),
    (read_vote_rows, "v.csv", VOTE + "0,1,a,,x,y\n1,2,b,,,\n", "line 3: some votes name their systems"),
    (read_vote_rows, "v.csv", "0.wav,1.wav,a\n", "line 1: the column winner is missing"),
    (read_vote_rows, "v.json", '[{"a": "0", "b": "1", "winner": "a", "prompt": 3.5}]', "prompt is 3.5: write a text"),
    (read_vote_rows, "v.csv", VOTE, "holds no votes"),
    # ranks and scores
    (read_results, "r.csv", "system,fad\nA,0.4\nB,n/a\n", "line 3: fad of B is 'n/a': it needs a number"),
    (read_results, "r.csv", "system,fad\nA,nan\n", "line 2: fad of A is nan, not finite"),
    (read_results, "r.csv", "system,fad\nA,1\nA,2\n", "line 3: system 'A' is given twice, first on line 2"),
    (read_results, "r.csv", "name,fad\nA,1\n", "name the column system"),
    (read_results, "r.json", '{"tables": {}}', "is no table.json of `fluxlight evaluate`"),
    (scores, "s.json", '{"p0": {}, "p1": {}}', "id 'p0' has no values"),
    (scores, "s.json", '{"p0": {"a": 1},\n "p1": {"a": 1, "b": 2}}', "line 1 row 1: id 'p0' has no b, which others"),
    (scores, "s.json", '{"p0": {"a": true}}', "a of p0 is True: it needs a number"),
    (scores, "s.json", '{"p0": {"a": null}}', "a of p0 is nothing: it needs a number"),
    (scores, "s.json", "[1, 2]", "row 1: is 1, no object"),
    (scores, "s.csv", "id,a\n,1\n", "line 2: id is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("reader", "name", "content", "words"), BAD)
def test_a_bad_table_is_one_line(tmp_path: Path, reader: Reader, name: str, content: str | bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(tables.BadTable) as error:
        reader(path)
    said = str(error.value)
    assert words in said and str(path) in said and said.isprintable(), said
    assert re.search(r": \S[^:]*$", said), "a remedy stands behind the last colon"
    assert not re.search(r"\b(remove|delete)\b", said), "the file is the user's"


def test_there_are_many_kinds_of_bad_tables() -> None:
    assert len({words for *_, words in BAD}) >= 30


def test_foreign_text_never_reaches_the_terminal_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("a,b,winner\n0,1,\x1b[31mred\n")
    with pytest.raises(tables.BadTable) as error:
        read_vote_rows(tmp_path / "v.csv")
    assert "\x1b" not in str(error.value) and "winner is" in str(error.value)
    for path, words in ((tmp_path / "none.csv", "does not exist: give"), (tmp_path, "is a folder")):
        with pytest.raises((FileNotFoundError, ValueError), match=words):
            read_prompt_rows(path)


ID = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=6)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
ROWS = st.lists(st.tuples(ID, TEXT), min_size=1, max_size=5, unique_by=lambda row: tables.same(row[0]))


@given(rows=ROWS, mark=st.booleans(), form=st.sampled_from(["csv", "tsv", "list", "object", "jsonl"]))
@settings(deadline=None, max_examples=150)
def test_what_is_written_is_read_back(
    rows: list[tuple[str, str]], mark: bool, form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if form in ("csv", "tsv"):
        if form == "tsv" and any("\t" in text and re.search(r"[\r\n]", text) for _, text in rows):
            return  # which of two readings is meant cannot be told: refused, see above
        written = io.StringIO()
        writer = csv.writer(written, delimiter="," if form == "csv" else "\t", quoting=csv.QUOTE_ALL)
        writer.writerows([("id", "prompt"), *rows])
        name, text = f"p.{form}", written.getvalue()
    else:
        dicts = [{"prompt": text, "id": id} for id, text in rows]
        name = "p.jsonl" if form == "jsonl" else "p.json"
        text = {
            "list": json.dumps(dicts, indent=1),
            "object": json.dumps({**dict(rows)}, ensure_ascii=False),
            "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in dicts),
        }[form]
    path = tmp_path_factory.mktemp("t") / name
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + text.encode())
    if form == "object" and {"id", "prompt"} <= {id.casefold() for id, _ in rows}:
        return
    assert read(path) == rows


@given(values=st.dictionaries(ID, st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2), min_size=1))
@settings(deadline=None, max_examples=60)
def test_scores_are_read_back(values: dict[str, tuple[float, float]], tmp_path_factory: pytest.TempPathFactory) -> None:
    values = {tables.same(id): pair for id, pair in values.items()}
    wanted = {id: {"base": pair[0], "row 1": pair[1]} for id, pair in values.items()}
    folder, written = tmp_path_factory.mktemp("s"), io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows(
        [("id", "base", "row 1"), *((i, *p) for i, p in values.items())]
    )
    (folder / "s.json").write_text(json.dumps(wanted))
    (folder / "s.csv").write_text(written.getvalue(), encoding="utf-8")
    (folder / "s.jsonl").write_text("".join(json.dumps({"id": i, **row}) + "\n" for i, row in wanted.items()))
    assert scores(folder / "s.json") == scores(folder / "s.csv") == scores(folder / "s.jsonl") == wanted


def test_the_room_stands_on_files_alone() -> None:
    for path in (ROOT / "fluxlight/tables").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            assert (
                module is None
                or not module.startswith("fluxlight")
                or module.startswith(("fluxlight.tables", "fluxlight.files"))
            ), f"{path.name} imports {module}"
