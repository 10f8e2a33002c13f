"""The listening page of a table in a real browser: sample, order, level and keys, from a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from browser import chromium, found
from small_evaluation import IDS, PROMPTS, render

from fluxlight.random import permutation
from fluxlight.report.listening import listening_page

SHOWN = "[...document.querySelectorAll('article:not([hidden])')].map(a => a.querySelector('b').textContent)"
VOLUMES = "[...document.querySelectorAll('article')[0].querySelectorAll('audio')].map(a => a.volume)"
STATE = "[...document.querySelector('article.now').querySelectorAll('audio')].map(a => [a.paused, a.currentTime])"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    systems = {"row0": render(tmp_path / "row0", 1, 0.1), "row1": render(tmp_path / "row1", 2, 0.02)}
    for clip in systems["row1"].iterdir():
        audio, rate = soundfile.read(clip)
        soundfile.write(clip, 0.25 * audio, rate)
    scores = {i: {"row0": {"reward": 0.0}, "row1": {"reward": (7 * k) % 12 - 6.0}} for k, i in enumerate(IDS)}
    return listening_page(tmp_path / "index.html", PROMPTS, systems, scores)


def test_levels_are_measured_once(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = json.loads((page.parent / "levels.json").read_text())
    assert len(kept) == 24 and all(-60 < level < 0 for level in kept.values())
    monkeypatch.setattr("fluxlight.report.listening.integrated_loudness", None)
    systems = {name: page.parent / name for name in ("row0", "row1")}
    before = page.read_text()
    assert listening_page(page, PROMPTS, systems, {}).read_text().count("data-l=") == before.count("data-l=-") == 24


@pytest.mark.skipif(not found(), reason="no Chromium: install one, or name it in FLUXLIGHT_CHROMIUM")
def test_a_person_compares_rows_by_keys(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluxlight.report.listening.SAMPLE", 5)
    systems = {name: page.parent / name for name in ("row0", "row1")}
    scores = {i: {"row0": {"reward": 0.0}, "row1": {"reward": (7 * k) % 12 - 6.0}} for k, i in enumerate(IDS)}
    listening_page(page, PROMPTS, systems, scores)
    with chromium(tmp_path / "profile", tmp_path) as tab:
        tab.open(page.as_uri())
        assert tab.run(SHOWN) == IDS
        options = tab.run("[...document.querySelectorAll('#sort option')].map(o => [o.textContent, o.value])")
        choose = "const sorted = document.getElementById('sort'); sorted.value = {!r}; sorted.onchange()"
        named = {text: value for text, value in options}
        tab.run(f"{{ {choose.format(named['Random sample: 5 prompts, seed 0'])} }}")
        rank = permutation(12, 0).tolist()
        assert tab.run(SHOWN) == [IDS[rank.index(k)] for k in range(5)]
        (gain,) = [value for text, value in options if "largest gain of row1 over row0 (its best cases)" in text]
        tab.run(f"{{ {choose.format(gain)} }}")
        assert tab.run(SHOWN)[0] == max(IDS, key=lambda i: scores[i]["row1"]["reward"])
        tab.run(f"{{ {choose.format('')} }}")
        # the louder row comes down to the softer one, and back
        loud, soft = tab.run(VOLUMES)
        first, second = tab.run(
            "[...document.querySelectorAll('article')[0].querySelectorAll('audio')].map(a => +a.dataset.l)"
        )
        assert soft == 1 and loud == pytest.approx(10 ** ((second - first) / 20)) and loud < 0.3
        tab.press("l")
        assert tab.run(VOLUMES) == [1, 1]
        # one key a row, at one moment
        tab.press("j")
        tab.press("j")
        assert tab.run("document.querySelector('article.now b').textContent") == IDS[1]
        tab.press("1")
        tab.until(f"{STATE}[0][1] > 0.1")
        tab.press("2")
        tab.until(f"!{STATE}[1][0] && {STATE}[1][1] > 0")
        (stopped, before), (playing, now) = tab.run(STATE)
        assert stopped and not playing and abs(now - before) < 0.5
        tab.press(" ")
        assert [paused for paused, _ in tab.run(STATE)] == [True, True]
