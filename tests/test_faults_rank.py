"""Ranking files as people have them: spellings of measures, numbers that are none, systems and measures twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fluxlight.challenge.rank import borda_points
from fluxlight.cli import main
from fluxlight.metrics.direction import arrow, direction, lower_measures
from fluxlight.report.listening import _best
from fluxlight.report.plots import _title

LOWER = ("FAD-CLAP", " fad", "fad", "fad_windows", "FAD (VGGish)", "KAD", "kl", "KL-divergence", "fad2048", "x ↓")
HIGHER = ("CLAP", "clap_b", "CLAP score", "reward_a", "tunejury reward", "MOS", "recall_at_10", "a gain ↑")
NEITHER = ("fda", "diversity", "-FAD", "1 - FAD", "1/fad", "neg_fad", "FAD improvement", "score of ours", "", "x ↑↓")


@pytest.mark.parametrize(("names", "way"), [(LOWER, "lower"), (HIGHER, "higher"), (NEITHER, "")])
def test_a_name_says_its_direction_however_it_is_spelled_or_says_none(names: tuple[str, ...], way: str):
    assert {name: direction(name) for name in names} == dict.fromkeys(names, way)
    assert arrow(names[0]) == {"lower": " ↓", "higher": " ↑", "": ""}[way]


def rank(tmp_path: Path, text: str, *flags: str, name: str = "results.csv") -> int:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return main(["rank", str(tmp_path / name), *flags])


@pytest.mark.parametrize("fad", ["fad", " fad", "FAD-CLAP", "Fad ", "KAD"])
def test_the_small_distance_wins_under_every_name_and_the_direction_is_printed(tmp_path: Path, capsys, fad: str):
    assert rank(tmp_path, f"system,{fad},clap\ngood,0.1,0.3\nbad,0.9,0.1\n") == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].split() == ["1", "2", "points", "good"] and lines[1].split() == ["2", "0", "points", "bad"]
    assert said.err == f"fluxlight rank: {fad.strip()}: lower is better; clap: higher is better\n"


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        ("system,fda\na,1\nb,2\n", (), "which way of fda is better is not known: give --lower or --higher"),
        ("system,fad\na,1\nb,2\n", ("--lower", "fda"), "fda is no measure here (there are fad)"),
        ("system,fad\na,1\nb,2\n", ("--higher", "mos"), "mos is no measure here (there are fad)"),
        ("system,x\na,1\nb,2\n", ("--higher", "x", "--lower", "X"), "x is said to be lower and higher"),
        ("system,fad\na,nan\nb,2\n", (), "fad of a is nan"),
        ("system,fad\na,1\nb,inf\n", (), "fad of b is inf"),
        ("system,fad\na,1\na,2\n", (), "system 'a' is given twice"),
        ("system,fad\na,1\n a ,2\n", (), "system 'a' is given twice"),
        ("system,fad,fad\na,1,2\nb,2,1\n", (), "the column fad is named twice"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(tmp_path: Path, capsys, text: str, flags: tuple, said: str):
    assert rank(tmp_path, text, *flags) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.strip().splitlines()) == 1


def test_json_that_names_a_system_or_a_measure_twice_is_refused(tmp_path: Path, capsys):
    for text, said in (
        ('{"a": {"fad": 1}, "b": {"fad": 2}, "a": {"fad": 3}}', "'a' is given twice"),
        ('{"a": {"fad": 1, "fad": 2}, "b": {"fad": 2}}', "twice"),
        ('{"a": {"fad": 1, "fad ": 2}, "b": {"fad": 2, "fad ": 1}}', "names a column twice"),
        ('{"a": {"fad": NaN}, "b": {"fad": 2}}', "fad of a is nan"),
    ):
        assert rank(tmp_path, text, name="results.json") == 2
        assert said in capsys.readouterr().err


def test_what_a_user_says_goes_before_the_name(tmp_path: Path, capsys):
    assert rank(tmp_path, "system,diversity\na,1\nb,2\n", "--higher", "Diversity") == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("b")
    assert lower_measures(["FAD", "CLAP", "x"], lower=["x"], higher=["fad"]) == {"x"}
    with pytest.raises(ValueError, match="FAD is no measure here"):
        borda_points({"a": {"fad": 1.0}, "b": {"fad": 2.0}}, {"FAD"})


def test_tables_and_pages_turn_no_measure_round(tmp_path: Path, capsys):
    table = {f"p{k}": {"a": 0.1 + 0.01 * k, "b": 0.5 - 0.02 * k} for k in range(4)}
    (tmp_path / "s.json").write_text(json.dumps(table))
    (tmp_path / "p.json").write_text(json.dumps([{"id": id, "prompt": id} for id in table]))
    given = [word for name in ("WER", "mos", "thing") for word in ("--scores", f"{name}={tmp_path / 's.json'}")]
    assert main(["evaluate", *given, "--prompts", str(tmp_path / "p.json"), "--out", str(tmp_path / "out")]) == 0
    assert "| row | WER ↓ | mos ↑ | thing |" in capsys.readouterr().out
    scores = {"a": {"WER": 0.1, "mos": 1.0, "thing": 1.0}, "b": {"WER": 0.2, "mos": 2.0, "thing": 2.0}}
    assert _best(scores) == {"a": {"WER"}, "b": {"mos"}}
    assert "lower is better" in _title("WER", []) and "not known" in _title("thing", [])
