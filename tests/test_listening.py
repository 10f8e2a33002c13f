"""A listening session: what is dealt, how loud it is, what comes back, and what the two verbs say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_listening import PROMPTS, listen_words, make_systems, vote_rows, write_votes

from fluxlight.cli import main
from fluxlight.files import read_json, sha256, write_json
from fluxlight.listening import design, make_session, read_ballots
from fluxlight.listening.reliability import reliability
from fluxlight.postprocess import integrated_loudness
from fluxlight.prompts import read_prompts
from fluxlight.rewards.votes import read_votes

IDS = [f"p{k}" for k in range(41)]
NAMES = ("x", "y")


def test_each_order_is_balanced_and_holds_what_was_asked() -> None:
    dealt = design(IDS, NAMES, seed=3, pairs=30, repeats=0.2, identical=0.1, orders=5)
    assert len(dealt) == 5 and dealt == design(IDS, NAMES, 3, 30, 0.2, 0.1, 5) != design(IDS, NAMES, 4, 30, 0.2, 0.1, 5)
    assert len({tuple(t.id for t in order if t.kind == "pair") for order in dealt}) == 5
    for order in dealt:
        at = {(t.id, t.kind): k for k, t in enumerate(order)}
        pairs = [t for t in order if t.kind == "pair"]
        repeats = [t for t in order if t.kind == "repeat"]
        same = [t for t in order if t.kind == "identical"]
        assert (len(pairs), len(repeats), len(same)) == (30, 6, 3) and len({t.id for t in pairs}) == 30
        assert sum(t.a == "x" for t in pairs) == 15 and all({t.a, t.b} == set(NAMES) for t in pairs)
        sides = {t.id: t.a for t in pairs}
        for t in repeats:
            assert t.b == sides[t.id] and at[t.id, "repeat"] - at[t.id, "pair"] >= 5
        assert all(t.a == t.b for t in same) and {t.a for t in same} == set(NAMES)
    assert set(dealt[0]) & set(dealt[1]) >= {t for t in dealt[0] if t.kind == "identical"}


def test_a_coin_decides_which_half_and_chance_which_prompts() -> None:
    many = [order for seed in range(100) for order in design(IDS, NAMES, seed, 5, 0, 0, 8)]
    first = np.mean([order[0].a == "x" for order in many])
    assert first == pytest.approx(0.5, abs=0.06)
    assert {sum(t.a == "x" for t in order) for order in many} == {2, 3}
    heard = np.unique([t.id for order in many for t in order], return_counts=True)[1]
    assert len(heard) == 41 and heard.max() < 2 * heard.min()


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"pairs": 0}, "choose 1 to 41"),
        ({"pairs": 42}, "choose 1 to 41"),
        ({"repeats": 2.0}, "repeats is 2.0"),
        ({"identical": -1.0}, "identical is -1.0"),
        ({"orders": 0}, "orders is 0"),
        ({"systems": ("x", "x")}, "two of different names"),
    ],
)
def test_what_cannot_be_dealt_is_named(more: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        design(IDS, **{"systems": NAMES, **more})


def test_one_pair_is_a_session() -> None:
    (order,) = design(["p"], NAMES, orders=1)
    assert [t.kind for t in order if t.kind != "identical"] == ["pair", "repeat"]


def test_clips_have_one_level_and_names_that_tell_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = listen_words(tmp_path, pairs=6, identical=0.4)
    # a peak that -23 LUFS would push over full scale softens every clip
    peaky = np.zeros(22050)
    peaky[::2000] = 0.9
    soundfile.write(tmp_path / "system0" / "p05.wav", peaky, 22050)
    soundfile.write(tmp_path / "system1" / "p06.wav", np.zeros(16000), 16000)
    assert main(words, standalone=False) == 0
    said = capsys.readouterr().out
    session = read_json(tmp_path / "listening" / "session.json")
    assert "silent, or under 0.4 s), played as it is: after <i>: p06" in said and session["lufs"] < -23
    loud = []
    for order in session["orders"]:
        for row in order:
            for side in "ab":
                audio, rate = soundfile.read(tmp_path / "listening" / row[side])
                assert np.abs(audio).max() <= 1
                if audio.any():
                    loud.append(integrated_loudness(torch.from_numpy(audio), rate))
            a, b = tmp_path / "listening" / row["a"], tmp_path / "listening" / row["b"]
            assert a != b and (sha256(a) == sha256(b)) == (row["kind"] == "identical")
    assert loud == pytest.approx([session["lufs"]] * len(loud), abs=0.1)
    page = (tmp_path / "listening" / "index.html").read_text(encoding="utf-8")
    assert not any(word in page for word in ("system0", "after &lt;i", "after <i", '"before"', "http"))
    # the same call changes nothing, another session is refused
    before = {p: p.stat().st_size for p in (tmp_path / "listening").rglob("*") if p.is_file()}
    assert main(words, standalone=False) == 0
    assert before == {p: p.stat().st_size for p in (tmp_path / "listening").rglob("*") if p.is_file()}
    assert main([*words, "--seed", "1"]) == 2
    assert "holds another session" in capsys.readouterr().err


@pytest.fixture
def session(tmp_path: Path) -> tuple[Path, dict]:
    systems, prompts = make_systems(tmp_path)
    out = tmp_path / "listening"
    return out, make_session(systems, read_prompts(prompts), out, identical=0.2, repeats=0.25)


def likes(system: str):
    """Prefers a system; says of one clip against itself that it is one."""
    return lambda row, k: "tie" if row["kind"] == "identical" else "a" if row["system_a"] == system else "b"


def test_several_listeners_come_together_and_train_a_head(session, tmp_path: Path, capsys) -> None:
    out, made = session
    ann = write_votes(out / "votes-ann.csv", made, "ann", 0, likes("after <i>"))
    bob = write_votes(out / "votes-bob.csv", made, "bob", 1, lambda row, k: "a")
    # a file that was saved early and again counts once
    early = out / "early.csv"
    early.write_text("".join(ann.read_text(encoding="utf-8").splitlines(True)[:6]), encoding="utf-8")
    ballots = read_ballots([early, ann, bob])
    assert len(ballots) == len(made["orders"][0]) + len(made["orders"][1])
    table = tmp_path / "all" / "votes.csv"
    scores = {id: {s: {"reward": k * (s != "before")} for s in made["systems"]} for k, id in enumerate(PROMPTS)}
    write_json(tmp_path / "scores.json", scores)
    words = ["winrate", str(early), str(ann), str(bob), "--scores", str(tmp_path / "scores.json")]
    assert main([*words, "--table", str(table), "--out", str(tmp_path / "w")], standalone=False) == 0
    said = capsys.readouterr().out
    assert "# after <i> over before" in said and "| votes and reward |" in said and "For other listeners" in said
    result = read_json(tmp_path / "w" / "winrate.json")
    assert (result["prompts"], result["votes"]) == (12, 24) and result["rate"]["rate"] == pytest.approx(0.75)
    votes = read_votes(table)
    assert len(votes) == 2 * (12 + 3) and all(v.a.is_file() and v.b.is_file() and v.a != v.b for v in votes)
    assert {v.prompt for v in votes} == set(PROMPTS.values())
    # the page's own file is taken as it is
    assert len(read_votes(ann)) == len(made["orders"][0])


def test_a_listener_is_known_by_what_is_heard_twice(session) -> None:
    out, made = session
    sure = write_votes(out / "sure.csv", made, "sure", 0, likes("before"))
    left = write_votes(out / "left.csv", made, "left", 0, lambda row, k: "a")
    steady, biased = reliability(read_ballots([sure, left]))
    assert (steady.same, steady.reversed, steady.repeats) == (3, 0, 3)
    assert (steady.heard_none, steady.identical, steady.votes) == (2, 2, 12)
    assert (biased.same, biased.reversed, biased.heard_none) == (0, 3, 0)
    assert (biased.side_a, biased.side_b) == (17, 0) and biased.p_side < 0.001 < 0.5 < steady.p_side


def test_a_hand_written_table_is_enough(tmp_path: Path, capsys) -> None:
    rows = "".join(f"x{k}.wav,y{k}.wav,{'b' if k else 'tie'},tune {k},x,y\n" for k in range(9))
    (tmp_path / "votes.csv").write_text("a,b,winner,prompt,system_a,system_b\n" + rows)
    assert main(["winrate", str(tmp_path / "votes.csv")], standalone=False) == 0
    said = capsys.readouterr().out
    assert "# y over x: listeners prefer y (sign test p = 0.00781)" in said and "8 won, 0 lost, 1 tied" in said
    assert main(["winrate", str(tmp_path / "votes.csv"), "--of", "x", "--look", "2"], standalone=False) == 0
    # the second look may spend .0076
    assert "# x over y: not settled (sign test p = 0.00781)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ("0.wav,1.wav,left,p,x,y,\n", "line 2: winner is 'left'"),
        ("0.wav,1.wav,a,p,x,,\n", "line 2: some votes name their systems"),
        ("0.wav,1.wav,a,p,x,y,odd\n", "line 2: kind is 'odd'"),
        ("0.wav,1.wav,a,p,x,x,\n", "line 2: kind is 'pair' between x and x"),
        ("0.wav,1.wav,a,,x,y,\n", "line 2: neither id nor prompt"),
        ("0.wav,1.wav,a,p,x,y,\n0.wav,1.wav,a,q,x,z,\n", "between 3 systems"),
        ("0.wav,1.wav,a,p,x,y,\n", "on 1 prompts"),
        ("", "holds no votes"),
    ],
)
def test_bad_votes_are_one_line(rows: str, word: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "votes.csv").write_text("a,b,winner,prompt,system_a,system_b,kind\n" + rows)
    assert main(["winrate", str(tmp_path / "votes.csv")]) == 2
    assert word in capsys.readouterr().err


def test_votes_of_two_sessions_or_two_people_of_one_name_are_refused(session, tmp_path: Path, capsys) -> None:
    out, made = session
    one = write_votes(out / "one.csv", made, "ann", 0, likes("before"))
    other = write_votes(out / "two.csv", made, "ann", 0, lambda row, k: "tie")
    assert main(["winrate", str(one), str(other)]) == 2
    assert "ann has voted otherwise on this trial" in capsys.readouterr().err
    later = write_votes(out / "three.csv", {**made, "session": "other"}, "bob", 0, likes("before"))
    assert main(["winrate", str(one), str(later)]) == 2
    assert "votes of 2 sessions" in capsys.readouterr().err
    assert main(["winrate", str(one), "--of", "nobody"]) == 2
    assert "choose after <i> or before" in capsys.readouterr().err
    assert len(vote_rows(one)) == len(made["orders"][0])
