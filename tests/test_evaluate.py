"""``evaluate`` end to end: the published score files, tables and pages with fake judges, bad input, equal bytes."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pytest
from small_evaluation import IDS, PROMPTS, RATE, SECONDS, FakeClap, judges, prompts_file, render, run
from small_evaluation import world as world

from fluxlight.cli import main as fluxlight
from fluxlight.evaluation.compare import pairs_of
from fluxlight.evaluation.evaluate import evaluate
from fluxlight.evaluation.measure import reference_from_clips, reference_from_files
from fluxlight.report.listening import listening_page
from fluxlight.report.published import decomposition_table
from fluxlight.report.table import label


def main(words: list[str]) -> int:
    """``fluxlight evaluate``, as a user runs it."""
    return fluxlight(["evaluate", *words])


def test_published_scores_are_reproduced(shared, tmp_path, capsys) -> None:
    folder = shared / "sdd100"
    arguments = ["--scores", f"reward={folder}/reward_scores.json", "--scores", f"clap={folder}/clap_scores.json"]
    arguments += ["--prompts", f"{folder}/prompts.json", "--baseline", "baseline", "--out", str(tmp_path)]
    assert main(arguments) == 0
    table = json.loads((tmp_path / "table.json").read_text())["tables"]["scores"]
    means = {s: [table["systems"][s]["scores"][m]["mean"] for m in ("reward", "clap")] for s in table["order"]}
    # FACTS section 11
    assert means["sub1"] == pytest.approx([0.5340, 0.2844], abs=5e-5)
    assert means["sub2"] == pytest.approx([0.5505, 0.2988], abs=5e-5)
    assert means["baseline"] == pytest.approx([-0.0441, 0.0940], abs=5e-5)
    rows = {(c["system"], c["metric"]): c for c in table["comparisons"]}
    reward, clap = rows["sub1", "reward"], rows["sub1", "clap"]
    assert reward["difference"] == pytest.approx(0.578, abs=5e-4) and reward["t"] == pytest.approx(7.8, abs=0.05)
    assert (reward["wins"], reward["n"]) == (84, 100)
    assert clap["difference"] == pytest.approx(0.190, abs=5e-4) and clap["t"] == pytest.approx(12.4, abs=0.05)
    assert all(c["against"] == "baseline" and c["p_holm"] >= c["p"] for c in table["comparisons"])
    printed = capsys.readouterr().out
    assert "0.5505" in printed and "84/100" in printed
    assert (tmp_path / "plots" / "differences_scores.png").stat().st_size > 5000


def test_table_says_what_a_number_needs(world) -> None:
    result = run(world, world[0] / "out")
    table = result["tables"]["locked"]
    assert table["order"] == ["row0", "row1"] and "-23 LUFS" in table["loudness"]
    row = table["systems"]["row1"]
    assert row["distances"]["fad"]["low"] < row["distances"]["fad"]["value"] < row["distances"]["fad"]["high"]
    assert row["distances"]["fad"]["value"] < table["systems"]["row0"]["distances"]["fad"]["value"]
    assert table["floor"]["fad"]["n"] == 12 and table["floor"]["fad"]["rest"] == 18
    assert {c["metric"] for c in table["comparisons"]} == {"clap_b", "clap_a", "reward_a", "reward_b", "fad", "kad"}
    fad = next(c for c in table["comparisons"] if c["metric"] == "fad")
    assert fad["low"] <= fad["difference"] <= fad["high"] and fad["against"] == "row0"
    assert set(row["own_vs_shuffled"]) > {"difference", "p_t", "recall_at_10"}
    assert table["agreement"][0]["judges"] == ["clap_b", "clap_a"]
    assert table["agreement"][0]["spearman"] == pytest.approx(1)  # the two fakes agree
    assert result["frame"]["judges"]["reward_b"] == "fake-rb" and result["frame"]["optimised"] == ["clap_a", "reward_a"]
    text = decomposition_table(result)
    assert "reward A †" in text and "real against real" in text and "0.5998" in text
    assert text.index("published table") > text.index("Paired comparisons")


def test_equal_inputs_give_equal_bytes_and_no_path(world) -> None:
    one, two = world[0] / "one", world[0] / "two"
    run(world, one, plots=True)
    run(world, two, plots=True)
    for name in ("table.json", "table.md", "scores.json", "plots/means_locked.png"):
        a, b = (one / name).read_bytes(), (two / name).read_bytes()
        assert hashlib.sha256(a).hexdigest() == hashlib.sha256(b).hexdigest(), name
    text = (one / "table.json").read_text() + (one / "table.md").read_text()
    assert str(world[0]) not in text and not re.search(r"20\d\d-\d\d-\d\d", text)


def test_the_frame_is_printed_beside_the_numbers(world) -> None:
    run(world, world[0] / "out", seed=7)
    text = (world[0] / "out/table.md").read_text()
    assert "seed 7: 60 permutations; 2000 draws of each interval" in text
    assert re.search(r"mean LUFS: row0 -\d+\.\d, row1 -\d+\.\d\.", text)
    assert "30 reference clips" in text and "embedder fake-b" in text and "one embedding per clip" in text


def test_bad_score_files_and_settings(world, tmp_path, capsys) -> None:
    prompts = str(prompts_file(world[0]))
    file = tmp_path / "scores.json"
    for content, words in (
        ("{", "not valid JSON"),
        (json.dumps({i: {"a": 1.0} for i in IDS[1:]}), "1 prompts have no row"),
        (json.dumps({i: {"a": 1.0} for i in [*IDS, "x"]}), "belong to no prompt: x"),
        (json.dumps({i: {"a": 1.0 if i != "p04" else float("nan")} for i in IDS}), "row 5: a of p04 is nan, not"),
    ):
        file.write_text(content)
        assert main(["--scores", f"m={file}", "--prompts", prompts, "--out", str(tmp_path / "o")]) == 2
        assert words in capsys.readouterr().err
    file.write_text(json.dumps({i: {"a": 1.0, "b": 2.0} for i in IDS}))
    assert main(["--scores", f"m={file}", "--prompts", prompts, "--baseline", "z", "--out", str(tmp_path / "o")]) == 2
    assert "z is no system" in capsys.readouterr().err
    claps, rewards = judges()
    with pytest.raises(ValueError, match="evaluating CLAP first"):
        evaluate(world[1], PROMPTS, None, claps, rewards, {"clap_b"}, seconds=SECONDS)
    other = reference_from_clips(
        [np.random.default_rng(k).normal(size=RATE) for k in range(4)], RATE, FakeClap("other")
    )
    with pytest.raises(ValueError, match="embedded by other"):
        evaluate(world[1], PROMPTS, other, claps, rewards, seconds=SECONDS)
    with pytest.raises(ValueError, match="delivered"):
        run(world, tmp_path / "o", protocols=("delivered",))


def test_listening_page_holds_every_clip(world) -> None:
    out = world[0] / "page"
    result = run(world, out)
    scores = json.loads((out / "scores.json").read_text())
    page = listening_page(out / "index.html", PROMPTS, world[1], scores, result, "Rows <0> and 1")
    text = page.read_text()
    assert text.count("<audio") == text.count("class=pic") == 24 and text.count("<article") == 12
    assert "Rows &lt;0&gt; and 1" in text and "@@" not in text
    assert not re.search(r"(src|href)=[\"']?(https?:|//)", text), "nothing is fetched from elsewhere"
    for source in re.findall(r'src="([^"]+)"', text):
        assert (out / source).is_file(), source
    before = {p: p.stat().st_mtime_ns for p in out.glob("spectrograms/*/*.jpg")}
    listening_page(out / "index.html", PROMPTS, world[1], scores, result, copy=True)
    assert {p: p.stat().st_mtime_ns for p in out.glob("spectrograms/*/*.jpg")} == before and len(before) == 24
    assert (out / "audio" / "row1" / "p11.wav").is_file()


def test_extra_measures_of_a_row(world) -> None:
    _, systems, folder = world
    claps, rewards = judges()
    files = sorted(folder.iterdir())
    references = [
        reference_from_files(files, claps["clap_b"], "locked", "real", windows=windows) for windows in (False, True)
    ]
    again = render(world[0] / "row1 again", 5, 0.02)
    result = evaluate(
        systems, PROMPTS, references, claps, rewards, {"clap_a"}, world[0] / "out", seconds=SECONDS, resamples=40,
        repeats=3, extra=("fad_windows", "mad", "diversity"), runs={"row1": [[systems["row1"], again]]},
    )  # fmt: skip
    table = result["tables"]["locked"]
    row = table["systems"]["row1"]
    assert list(row["distances"]) == ["fad", "fad_windows", "kad", "mad", "diversity"] == list(table["floor"])
    # two windows of a clip of 1.5 s: the pooled FAD is another number on another scale
    assert table["reference_windows"]["n"] == 60 and table["reference_windows"]["windows"] == "10s/1s"
    assert row["distances"]["fad_windows"]["value"] != pytest.approx(row["distances"]["fad"]["value"], rel=0.01)
    assert row["distances"]["diversity"]["value"] == pytest.approx(row["diversity"])
    assert row["seeds"] == 2 and 0 < row["diversity_per_prompt"] < row["diversity"]
    assert "diversity_per_prompt" not in table["systems"]["row0"]
    assert {c["metric"] for c in table["comparisons"]} >= {"fad_windows", "mad", "diversity"}
    text = (world[0] / "out/table.md").read_text()
    assert "40 permutations cannot bring" in text and f"at least {20 * len(table['comparisons'])} are needed" in text
    assert "FAD 10s/1s ↓" in text and "| diversity |" in text and "60 windows of 30 reference clips" in text
    assert "(2 seeds)" in text and (world[0] / "out/plots/means_locked.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="fad_windows needs a reference made of windows"):
        run(world, world[0] / "none", extra=("fad_windows",))
    with pytest.raises(ValueError, match="no measure nonsense"):
        run(world, world[0] / "none", extra=("nonsense",))


def test_rows_are_compared_with_whom_one_asks(world) -> None:
    names = ["noise", "row0", "row1", "row2"]
    assert pairs_of(names, None) == [("row0", "noise"), ("row1", "row0"), ("row2", "row1")]
    assert pairs_of(names, "row0") == [("noise", "row0"), ("row1", "row0"), ("row2", "row0")]
    asked = [("row2", "noise"), ("row0", "noise"), ("row2", "noise"), ("noise", "row2"), ("row2", "row1")]
    assert pairs_of(names, asked) == [("row0", "noise"), ("row2", "noise"), ("row2", "row1")]
    with pytest.raises(ValueError, match="itself"):
        pairs_of(names, [("row0", "row0")])
    systems = {**world[1], "row2": render(world[0] / "row2", 6, 0.05)}
    against = [*pairs_of(list(systems), None), ("row2", "row0")]
    claps, rewards = judges()
    result = evaluate(systems, PROMPTS, None, claps, rewards, against=against, seconds=SECONDS)
    found = {(c["system"], c["against"]) for c in result["tables"]["locked"]["comparisons"]}
    assert found == {("row1", "row0"), ("row2", "row1"), ("row2", "row0")}


def test_labels() -> None:
    names = ("clap_b", "reward_a", "fad", "reward", "clap", "fad_windows", "mad", "diversity")
    assert [label(n) for n in names] == [
        "CLAP-B", "reward A", "FAD", "reward", "CLAP", "FAD 10s/1s", "MAD", "diversity"]  # fmt: skip


def test_the_cost_of_an_evaluation_is_measured_from_outside(tmp_path, monkeypatch) -> None:
    """The real judges on two short clips, in a process and a cache of their own; nothing is left behind."""
    from fluxlight.bench.evaluation import evaluation_seconds

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert evaluation_seconds(clips=2, seconds=1.2, jobs=1) > 0
    assert not list(tmp_path.glob("fluxlight-*"))
    with pytest.raises(RuntimeError, match="interval needs at least 2"):
        evaluation_seconds(clips=1, seconds=1.2, jobs=1)
