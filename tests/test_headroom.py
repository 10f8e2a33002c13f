"""The headroom ladder: each part of a gap is put where it was planted, and a deaf judge is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_evaluation import FakeClap, FakeReward, render
from small_world import SmallCodec

from fluxlight.cli import main
from fluxlight.evaluation.judging import Judges
from fluxlight.files import read_json, write_json
from fluxlight.prompts import Prompt
from fluxlight.validity.climb import LadderClip
from fluxlight.validity.headroom import encoded, gap_of, headroom, judged, steps, verdict
from fluxlight.validity.headroom_page import markdown

RATE, LEVELS = 8000, (0.2, 0.4, 0.8)


class Deaf(FakeReward):
    """Hears its prompt alone."""

    def score(self, audio, sample_rate, prompts):
        return super().score(audio * 0, sample_rate, prompts)


def real(n: int = 12) -> list[LadderClip]:
    draw, time = np.random.default_rng(0), np.arange(RATE) / RATE
    tones = [0.3 * np.sin(2 * np.pi * (100 + 40 * k) * time) + 0.01 * draw.normal(size=RATE) for k in range(n)]
    return [LadderClip(Prompt(f"p{k}", f"tune {k}"), tone.astype(np.float32), RATE) for k, tone in enumerate(tones)]


def value(number: float) -> dict:
    return {"score": {"value": number, "low": number, "high": number}}


def test_a_gap_is_cut_into_its_parts() -> None:
    measured = {"real": value(1.3), "round trip": value(1.2), "noise 0.2 sd": value(1.0), "noise 0.4 sd": value(0.6),
                "noise 0.8 sd": value(-0.4), "row": value(0.1)}  # fmt: skip
    found = gap_of(measured, "score", "row", LEVELS)
    assert found["gap"] == pytest.approx(1.2) and found["codec"] == pytest.approx(0.1)
    assert found["generator"] == pytest.approx(1.1) and found["heard"] == pytest.approx(1.6)
    assert found["as_noise"] == pytest.approx(0.6)
    assert gap_of({**measured, "row": value(-2.0)}, "score", "row", LEVELS)["as_noise"] is None
    # of a distance less is better
    turned = {step: {"fad": {"value": -said["score"]["value"]}} for step, said in measured.items()}
    assert gap_of(turned, "fad", "row", LEVELS)["gap"] == pytest.approx(1.2)


@pytest.mark.parametrize(("heard", "generator", "codec", "said"), [
    (-0.1, 0.5, 0.1, "judge: it does not hear"), (0.3, 0.5, -0.1, "generator (92%)"),
    (0.3, 0.5, 0.05, "generator (92%), the rest is the codec"), (0.3, -0.1, 0.1, "codec: the row is as good"),
    (0.3, -0.1, -0.1, "no gap is seen"),
])  # fmt: skip
def test_what_limits_is_named(heard: float, generator: float, codec: float, said: str) -> None:
    tests = {"heard": {"low": heard}, "generator": {"low": generator}, "codec": {"low": codec}}
    assert verdict({"gap": 1.2, "generator": 1.1, "tests": tests}).startswith(said)


def test_steps_are_of_the_same_clips_and_noise_grows() -> None:
    clips, codec = real(4), SmallCodec()
    made = dict(steps(clips, codec, LEVELS))
    assert list(made) == ["real", "round trip", "noise 0.2 sd", "noise 0.4 sd", "noise 0.8 sd"]
    assert all([c.prompt for c in part] == [c.prompt for c in clips] for part in made.values())
    distance = [np.mean([np.square(a.audio - b.audio).mean() for a, b in zip(part, made["round trip"], strict=True)])
                for part in list(made.values())[1:]]  # fmt: skip
    assert distance[0] == 0 and distance == sorted(distance) and distance[1] > 0
    assert encoded(clips, codec).shape == (4, codec.latent_len, codec.latent_dim)


def test_a_generators_gap_and_a_deaf_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path / "cache"))
    clips, codec = real(), SmallCodec()
    judges = Judges({"clap_b": FakeClap()}, {"steady": FakeReward(), "deaf": Deaf("deaf-1")})
    made = dict(steps(clips, codec, LEVELS))
    row = [LadderClip(c.prompt, np.clip(20 * c.audio, -1, 1), RATE) for c in made["round trip"]]
    rows = [judged(name, part, judges, "delivered", 1, False) for name, part in [*made.items(), ("row", row)]]
    found = headroom(rows, ["row"], LEVELS)
    assert found["gaps"]["row"]["deaf"]["verdict"].startswith("judge") and found["gaps"]["row"]["deaf"]["gap"] == 0
    steady = found["gaps"]["row"]["steady"]
    assert steady["generator"] > 0 and steady["gap"] == pytest.approx(steady["codec"] + steady["generator"])
    assert set(found["steps"]) == {*made, "row"} and set(steady["tests"]) == {"codec", "generator", "heard"}


def test_the_verb_over_a_world_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path / "cache"))
    ids = [f"p{k}" for k in range(5)]
    real_folder = render(tmp_path / "audio", 0, 0.01, ids)
    row, faulty = render(tmp_path / "row", 1, 0.3, [*ids, "more"]), render(tmp_path / "bad", 2, 0.5, ids)
    write_json(tmp_path / "prompts.json", [{"id": i, "prompt": f"tune {i}"} for i in ids])
    world = tmp_path / "world.yaml"
    world.write_text(
        "pipeline: {codec: small_world.SmallCodec}\n"
        "judges:\n  claps:\n    ear: {class_path: small_world.SmallJudge}\n  rewards:\n"
        "    loud: {class_path: small_world.SmallReward}\n  optimised: [loud]\n"
    )
    words = ["headroom", "--row", f"mine={row}", "--audio", str(real_folder), "--prompts",
             str(tmp_path / "prompts.json"), "--faulty", str(faulty), "--faulty-prompts",
             str(tmp_path / "prompts.json"), "--judges", str(world), "--reference", str(real_folder), "--out",
             str(tmp_path / "out")]  # fmt: skip
    assert main(words) == 0, capsys.readouterr().err
    said, result = (tmp_path / "out/headroom.md").read_text(), read_json(tmp_path / "out/headroom.json")
    assert result["order"] == ["real", "round trip", "noise 0.2 sd", "noise 0.4 sd", "noise 0.8 sd", "mine",
                               "faulty"]  # fmt: skip
    assert set(result["steps"]) == set(result["order"]) and markdown(result) == said, "the JSON holds all of it"
    assert {"fad", "kad", "ear", "loud"} == set(result["gaps"]["mine"]) and "## mine against real clips" in said
    assert result["frame"]["codec"] == "small-codec" and "loud †" in said
    for more, complaint in ((["--noise", "0.4", "0.2"], "give rising levels"), (["--row", "real=x"], "given twice"),
                            (["--row", f"lacks={tmp_path / 'bad2'}"], "does not exist")):  # fmt: skip
        assert main([*words, *more]) == 2
        assert complaint in capsys.readouterr().err
