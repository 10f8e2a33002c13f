"""Progress: bars in a terminal, a line a minute without one, the time left of a chain, a page that grows."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest
from small_evaluation import IDS, PROMPTS, render

from experiments.chain.decomposition import Decomposition
from experiments.chain.forecast import Forecast, forecast
from experiments.chain.numbers import ROOT, read_numbers
from experiments.chain.page import grow
from experiments.chain.run_folder import RunFolder
from experiments.chain.steps import Command, Step, run_steps
from fluxlight import progress
from fluxlight.files import write_json
from fluxlight.progress import Bar, bar, track
from fluxlight.report.listening import listening_page


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that is moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(bar, "_spoken", now[0])
    return now


def test_without_a_terminal_there_is_a_line_a_minute(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    for _ in track(range(300), "judging", unit="clip"):
        clock[0] += 1
    for _ in track(range(40), "short", unit="clip"):
        clock[0] += 1
    lines = log.getvalue().splitlines()
    # 340 seconds, whatever bars they belong to
    assert len(lines) == 5 and not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", "".join(lines))
    assert lines[0] == "judging: 60 of 300 clips, 20%, 04:00 left"


def test_in_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with Bar("drawing", 4, unit="clip") as shown:
        shown.say("loss 0.5")
        shown.update(4)
    assert "drawing: 100%" in screen.getvalue() and "4/4" in screen.getvalue() and "loss 0.5" in screen.getvalue()
    screen.truncate(0)
    with Bar("drawing", 4, show=False) as hidden:
        hidden.update()
    assert not screen.getvalue().strip("\0")


def test_whoever_runs_several_pieces_is_told_of_each(clock: list[float]) -> None:
    told: list[tuple[str, float | None, float]] = []

    def outer(*said: float) -> str:
        told.append(said)  # type: ignore[arg-type]
        return ""

    with progress.within(outer):
        for _ in track(range(4), "a"):
            clock[0] += 10
    assert told == [("a", 0.25, 30.0), ("a", 0.5, 20.0), ("a", 0.75, 10.0), ("a", 1.0, 0.0)]
    next(iter(track(range(2), "b")))
    assert len(told) == 4


def test_the_forecast_is_corrected_by_what_is_measured(clock: list[float], tmp_path: Path) -> None:
    ahead = Forecast({"a": 100.0, "b": 200.0, "c": 300.0}, kept=tmp_path / "kept.json")
    assert ahead.seconds == 600
    ahead.begin("a")
    clock[0] += 200  # twice as slow as expected
    ahead.end("a", 200.0)
    assert ahead.seconds == pytest.approx(1000)
    ahead.begin("b")
    clock[0] += 100
    assert ahead.seconds == pytest.approx(900)
    # its bar knows better, and what it says of this step (three times as slow) holds for the next
    assert ahead.tell("training", 0.5, 500.0) == "chain about 23 min left"
    ahead.end("b", 0.0, whole=False)  # done before: says nothing about the machine
    assert ahead.seconds == pytest.approx(600)
    again = Forecast({"a": 200.0})
    assert again.left() == "about 3 min left" and "a" in (tmp_path / "kept.json").read_text()


def test_every_step_has_a_forecast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path))
    monkeypatch.chdir(ROOT)
    numbers, found = {}, {}
    for scale in ("debug", "tiny", "laptop"):
        numbers[scale] = read_numbers(scale)
        plan = Decomposition(tmp_path / scale, numbers[scale], ROOT / numbers[scale]["overlay"])
        steps = plan.steps()
        found[scale] = forecast(RunFolder(plan.out), steps, numbers[scale], plan.overlay, 2, 1)
        assert set(found[scale].waiting) == {step.name for step in steps}
    assert found["debug"].seconds < found["tiny"].seconds / 3 < found["laptop"].seconds / 9
    # what was measured wins over the plan
    found["tiny"].begin("trunk")
    found["tiny"].end("trunk", 77.0)
    again = forecast(RunFolder(plan.out), steps, numbers["tiny"], ROOT / numbers["tiny"]["overlay"], 2, 1)
    assert again.waiting["trunk"] == 77.0
    # what is done takes no more time
    run = RunFolder(tmp_path / "tiny")
    write_json(run.marker("trunk"), {"state": "done"})
    assert "trunk" not in forecast(run, steps, numbers["tiny"], ROOT / numbers["tiny"]["overlay"], 2, 1).waiting


def test_every_step_says_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "p.json", [{"id": "a", "prompt": "a tune"}])
    words = ("--prompts", str(tmp_path / "p.json"), "--out", str(tmp_path / "run" / "noise"))
    steps = [Step("noise", "floor", (Command("experiments.white_noise", words),), ("noise/*.wav",))]
    steps.append(Step("rest", "nothing", (), (), ("noise",)))
    lines: list[str] = []
    made: list[str] = []
    run = RunFolder(tmp_path / "run")
    for _ in range(2):
        ahead = Forecast({"noise": 30.0, "rest": 270.0})
        run_steps(run, steps, lines.append, forecast=ahead, made=lambda step: made.append(step.name))
    heads = [line for line in lines if line.startswith("[")]
    assert heads[0].endswith("1/2 noise: floor; about 5 min left") and len(heads) == 4
    assert "done before" in heads[2] and made == ["noise", "rest"]


def test_the_page_grows(tmp_path: Path) -> None:
    rows = {"real": "first/real", "row 0": "row0/slice", "row 1": "row1/slice"}
    assert grow(tmp_path, rows) is None
    write_json(tmp_path / "first" / "prompts.json", PROMPTS[:2])
    real = render(tmp_path / "first" / "real", 1, 0.1)
    for path in sorted(real.glob("*.wav"))[2:]:
        path.unlink()
    page = grow(tmp_path, rows)
    assert page is not None
    first = page.read_text()
    assert first.count("<article") == 2 and first.count("class=clip") == 2 and "So far: real" in first
    (tmp_path / "spectrograms" / "real" / "gone-01234567.jpg").write_bytes(b"")
    (tmp_path / "table.json").write_text("{}")
    render(tmp_path / "row0" / "slice", 2, 0.1)
    write_json(tmp_path / "first" / "prompts.json", PROMPTS)
    page = grow(tmp_path, rows)
    assert page is not None
    second = page.read_text()
    assert second.count("<article") == len(IDS) and second.count("class=clip") == 2 + len(IDS)
    # pictures of clips that are no longer shown have gone
    pictures = list((tmp_path / "spectrograms").glob("*/*.jpg"))
    assert len(pictures) == 2 + len(IDS)


def test_only_named_rows_may_lack_clips(tmp_path: Path) -> None:
    whole, part = render(tmp_path / "row0", 1, 0.1), render(tmp_path / "real", 2, 0.1)
    for path in sorted(part.glob("*.wav"))[3:]:
        path.unlink()
    systems = {"real": part, "row0": whole}
    scores = {i: {"row0": {"reward": 1.0}} for i in IDS}
    text = listening_page(tmp_path / "index.html", PROMPTS, systems, scores, partial={"real"}).read_text()
    assert text.count("<article") == len(IDS) and text.count("class=clip") == 3 + len(IDS)
    with pytest.raises(FileNotFoundError, match="system real: 9 of 12 prompts have no clip"):
        listening_page(tmp_path / "index.html", PROMPTS, systems, scores, partial={"row0"})


def test_there_is_one_mechanism() -> None:
    files = [p for top in ("fluxlight", "callbacks", "experiments") for p in (ROOT / top).rglob("*.py")]
    own = [p for p in files if re.search(r"\btqdm\b|isatty", p.read_text()) and p.parent.name != "progress"]
    assert not own, f"bars of their own: {own}; use fluxlight.progress"
