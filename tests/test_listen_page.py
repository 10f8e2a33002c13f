"""The blind page in a real browser: it is driven as a listener would, closed, opened again, and its file is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Page, chromium, found
from small_listening import PROMPTS, listen_words, vote_rows

from fluxlight.cli import main
from fluxlight.files import read_json
from fluxlight.listening import read_ballots
from fluxlight.rewards.votes import read_votes

pytestmark = pytest.mark.skipif(
    not found(), reason="no Chromium: install one (apt-get install chromium), or name it in FLUXLIGHT_CHROMIUM"
)
TEXT = "document.getElementById('{}').textContent"


def start(page: Page, address: str, name: str) -> None:
    page.open(address)
    page.run(f"document.getElementById('name').value = {name!r}; document.querySelector('#who button').click()")
    page.until("!document.getElementById('trial').hidden || !document.getElementById('end').hidden")


def hear_both(page: Page) -> None:
    page.press("a")
    page.until("heard.a >= session.heard")
    page.press("b")
    page.until("heard.b >= session.heard")


def test_a_listener_votes_comes_back_and_saves(tmp_path: Path) -> None:
    words = listen_words(tmp_path, heard=0.05, pairs=10, orders=3, identical=0.2)
    assert main(words, standalone=False) == 0
    session = read_json(tmp_path / "listening" / "session.json")
    address, profile = (tmp_path / "listening" / "index.html").as_uri(), tmp_path / "profile"
    for folder in (profile, tmp_path / "saved"):
        folder.mkdir()
    with chromium(profile, tmp_path / "saved") as page:
        start(page, address, "Änn B.")
        order = page.run("order")
        assert order in session["orders"] and page.run(TEXT.format("place")) == f"1 of {len(order)}"
        # no vote before both clips were heard
        page.press("ArrowLeft")
        assert page.run(TEXT.format("hint")) == "Listen to A and B first." and page.run("votes") == []
        page.press("a")
        page.until("heard.a >= session.heard")
        assert page.run("audio.a.src").endswith(order[0]["a"]) and not page.run("audio.a.paused")
        page.press("ArrowLeft")
        assert page.run(TEXT.format("hint")) == "Listen to B first."
        # the other clip goes on at the same moment, alone
        page.press(" ")
        moment = page.run("audio.a.currentTime")
        page.run("audio.b.play = () => Promise.resolve()")
        page.press("b")
        assert page.run("[audio.a.paused, side, audio.b.currentTime]") == [True, "b", pytest.approx(moment, abs=0.02)]
        page.run("delete audio.b.play; side = 'a'")
        for k in range(4):
            hear_both(page)
            assert page.run(TEXT.format("prompt")) == PROMPTS[order[k]["id"]]
            shown = page.run("document.body.innerText")
            assert not any(name in shown for name in session["systems"])
            page.press(("ArrowLeft", "ArrowRight", "ArrowDown", "ArrowLeft")[k])
        page.press("Backspace")
        assert page.run("votes") == ["a", "b", "tie"]
    with chromium(profile, tmp_path / "saved") as page:
        page.open(address)
        assert page.run("document.getElementById('name').value") == "Änn B."
        start(page, address, "Änn B.")
        assert page.run(TEXT.format("place")) == f"4 of {len(order)}"
        while page.run("!ended"):
            hear_both(page)
            k = page.run("votes.length")
            page.press("ArrowDown" if order[k]["kind"] == "identical" else "ArrowRight")
        assert page.run("!document.getElementById('end').hidden")
        shown = page.run("document.body.innerText")
        assert all(name in shown for name in session["systems"])
        page.run("document.querySelector('#end .save').click()")
        saved = tmp_path / "saved" / f"votes-Änn-B--{session['session']}.csv"
        for _ in range(200):
            if saved.is_file() and saved.stat().st_size:
                break
            page.run("new Promise(done => setTimeout(done, 25))")
        # another listener of this browser begins at the beginning
        page.run("document.getElementById('other').click()")
        start(page, address, "Carl")
        assert page.run(TEXT.format("place")).startswith("1 of") and page.run("votes") == []
    kept = saved.rename(tmp_path / "listening" / saved.name)
    rows = vote_rows(kept)
    said = ["a", "b", "tie", *("tie" if row["kind"] == "identical" else "b" for row in order[3:])]
    assert [row["winner"] for row in rows] == said
    for k, (row, trial) in enumerate(zip(rows, order, strict=True)):
        assert {name: row[name] for name in trial} == trial and row["prompt"] == PROMPTS[trial["id"]]
        assert (row["listener"], row["trial"], row["session"]) == ("Änn B.", str(k + 1), session["session"])
    pairs = [row for row in rows if row["kind"] == "pair"]
    assert len(pairs) == 10 and sum(row["system_a"] == "before" for row in pairs) == 5
    # both readers of votes take the file as it is
    assert len(read_votes(kept)) == len(read_ballots([kept])) == len(order)
    assert all(vote.a.is_file() and vote.b.is_file() for vote in read_votes(kept))
    assert main(["winrate", str(kept)], standalone=False) == 0


def test_a_page_without_its_clips_says_so(tmp_path: Path) -> None:
    assert main(listen_words(tmp_path, pairs=2), standalone=False) == 0
    alone = (tmp_path / "listening" / "index.html").rename(tmp_path / "alone.html")
    with chromium(tmp_path / "profile", tmp_path) as page:
        start(page, alone.as_uri(), "ann")
        page.press("b")
        page.until("document.getElementById('hint').textContent.includes('Clip B cannot be played')")
