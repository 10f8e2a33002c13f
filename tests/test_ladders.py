"""Ladders and error rates: damage is what it says, responses are read rightly, A/A stays silent, power grows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_world import SmallReward

from fluxlight.cli import error_rates as alarms_cli
from fluxlight.cli import ladders as ladders_cli
from fluxlight.evaluation.judges import load_judges
from fluxlight.evaluation.judging import Judges
from fluxlight.evaluation.measure import PerClip
from fluxlight.evaluation.sets import set_measures
from fluxlight.metrics import Reference
from fluxlight.prompts import Prompt
from fluxlight.validity import LADDERS
from fluxlight.validity.alarms import false_alarms, halves_pair, noise_pair, power, rate, trial
from fluxlight.validity.alarms_page import write_page as write_rates
from fluxlight.validity.alarms_run import Bench, fingerprint, run_trials
from fluxlight.validity.climb import LadderClip, climb
from fluxlight.validity.damage import damaged, wrong_caption
from fluxlight.validity.page import markdown, write_page
from fluxlight.validity.response import demand, responses, result_of, shape_of
from fluxlight.validity.sources import corpus_clips, corpus_reference

RATE = 8000
CLIP = (np.random.default_rng(0).normal(size=2 * RATE) * np.linspace(0.02, 0.3, 2 * RATE)).astype(np.float32)


def rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(audio.astype(np.float64) ** 2)))


def test_damage_is_what_its_step_says() -> None:
    for snr in LADDERS["white_noise"].steps:
        noise = damaged("white_noise", snr, CLIP, RATE, 3) - CLIP
        assert 20 * np.log10(rms(CLIP) / rms(noise)) == pytest.approx(snr, abs=0.3)
    for threshold in LADDERS["clipping"].steps:
        cut = damaged("clipping", threshold, CLIP, RATE, 3)
        assert np.abs(cut).max() == pytest.approx(min(threshold * rms(CLIP), np.abs(CLIP).max()), rel=1e-5)
    assert damaged("gain", -6, CLIP, RATE, 3) == pytest.approx(CLIP * 10**-0.3, rel=1e-5)
    spectrum = np.abs(np.fft.rfft(damaged("low_pass", 1000, CLIP, RATE, 3))) / np.abs(np.fft.rfft(CLIP))
    frequency = np.fft.rfftfreq(CLIP.size, 1 / RATE)
    assert np.median(spectrum[frequency < 500]) == pytest.approx(1, abs=0.02)
    assert np.median(spectrum[frequency > 2000]) < 0.05
    shuffled = damaged("time_shuffle", 0.25, CLIP, RATE, 3)
    assert shuffled.size == CLIP.size and rms(shuffled) == pytest.approx(rms(CLIP), rel=0.05)
    assert abs(np.corrcoef(shuffled, CLIP)[0, 1]) < 0.1
    for name, ladder in LADDERS.items():
        step = ladder.steps[-1]
        one, two = damaged(name, step, CLIP, RATE, 3), damaged(name, step, CLIP, RATE, 3)
        assert np.array_equal(one, two) and one.dtype == np.float32
    before = CLIP.copy()
    assert np.array_equal(before, CLIP), "the clip itself stays as it was"


def test_wrong_captions_are_never_the_own_one_and_stay_wrong() -> None:
    for n in (2, 5, 40):
        wrong = [{k for k, owner in enumerate(wrong_caption(share, n)) if owner != k} for share in (0.2, 0.6, 1)]
        assert [len(w) for w in wrong] == [round(0.2 * n), round(0.6 * n), n]
        assert wrong[0] <= wrong[1] <= wrong[2]
    with pytest.raises(ValueError, match="at least 2"):
        wrong_caption(1, 1)


@pytest.mark.parametrize(
    ("values", "against", "shape"),
    [
        ([0, 0.1, 0.2], [False] * 2, "flat"),
        ([0, 1, 2], [False] * 2, "rises"),
        ([0, -1, -2], [False] * 2, "falls"),
        ([0, -0.5, 2], [False] * 2, "rises within noise"),
        ([0, -0.5, 2], [True, False], "not monotone"),
    ],
)
def test_shapes(values: list[float], against: list[bool], shape: str) -> None:
    assert shape_of(values, against, scale=1.0) == shape
    if shape != "flat":
        assert shape_of(values, against, scale=1.0, seen=False) == "not seen"


def test_what_must_be_depends_on_loudness() -> None:
    gain, captions = LADDERS["gain"], LADDERS["wrong_captions"]
    assert [demand(gain, m, "locked") for m in ("fad", "clap_b", "reward")] == ["flat"] * 3
    assert [demand(gain, m, "delivered") for m in ("fad", "clap_b", "reward")] == [""] * 3
    assert demand(captions, "clap", "delivered") == "worse" and demand(captions, "kad", "delivered") == "flat"
    assert demand(LADDERS["white_noise"], "reward_b", "locked") == "worse"


# ---- a simulated model: clips on the unit sphere, scores that follow the prompt and the noise ----

D, PROMPTS = 8, 60


def system(seed: int, shift: float = 0.0) -> PerClip:
    """A model on the same prompts under noise ``seed``; ``shift`` damages it."""
    content = np.random.default_rng(1).normal(size=(PROMPTS, D))
    own = np.random.default_rng([2, seed]).normal(size=(PROMPTS, D))
    rows = 0.7 * content + 0.7 * own + 2
    rows[:, 0] += 3 * shift
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    scores = {"clap": content[:, 0] + own[:, 1] - shift, "reward": content[:, 2] + own[:, 1] + own[:, 3] - shift}
    prompts = [Prompt(str(k), f"tune {k}") for k in range(PROMPTS)]
    return PerClip(f"s{seed}", prompts, scores, {"clap": rows}, {"clap": content})


def reference() -> Reference:
    rows = np.concatenate([system(seed).embeddings["clap"] for seed in (90, 91)])
    return Reference.from_embeddings(rows, "sim-1", RATE)


def bench(shift: float = 1.0) -> Bench:
    rows = {"noise": [system(0), system(1), system(2)], "halves": [system(3)],
            "hurt 1": [system(0, shift), system(1, shift), system(2, shift)]}  # fmt: skip
    return Bench(rows, "clap", reference(), (), 24, 39)


def test_200_a_a_comparisons_alarm_in_at_most_five_percent_of_families() -> None:
    # KAD stands for the set measures, being the cheapest: test_statistics counts the alarms of FAD
    measures = {"kad": set_measures(24, "clap", reference())["kad"]}
    seeds, data = [system(k) for k in range(3)], system(3)
    pairs = {
        "noise": (noise_pair(seeds, 24, np.random.default_rng([5, k])) for k in range(200)),
        "halves": (halves_pair(data, 24, np.random.default_rng([6, k])) for k in range(200)),
    }
    for kind, made in pairs.items():
        rates = false_alarms([trial(pair, measures, 99, k) for k, pair in enumerate(made)])
        assert rates["family"].trials == 200 and rates["family"].share <= 0.05, (kind, rates["family"])
        assert set(rates) == {"family", "clap", "reward", "kad"}
        # each test alone is allowed its 5 %, to what 200 trials can tell
        assert all(r.low <= 0.05 for r in rates.values()), (kind, rates)


def test_power_grows_with_the_damage_and_counts_the_right_direction() -> None:
    measures = set_measures(24, "clap", reference())
    seeds = [system(k) for k in range(3)]
    shares = []
    for shift in (0.0, 0.6, 3.0):
        hurt = [system(k, shift) for k in range(3)]
        trials = [trial(noise_pair(seeds, 24, np.random.default_rng([7, k]), hurt), measures, 99, k) for k in range(12)]
        shares.append(power(trials))
    for name in ("clap", "reward", "fad", "kad", "family"):
        values = [found[name].share for found in shares]
        assert values[0] <= 0.2 and values[2] >= 0.9 and values == sorted(values), (name, values)
    better = [system(k, -2.0) for k in range(3)]
    pair = noise_pair(seeds, 24, np.random.default_rng(8), better)
    assert power([trial(pair, measures, 99, 0)])["clap"].share == 0, "an improvement is no damage seen"


def test_rates_have_exact_intervals() -> None:
    assert (rate(0, 200).low, rate(200, 200).high) == (0, 1)
    found = rate(10, 200)
    assert (found.low, found.high) == pytest.approx((0.0242, 0.0900), abs=2e-4)  # Clopper-Pearson, from tables


def test_a_pair_deals_two_different_seeds_of_the_same_prompts() -> None:
    seeds = [system(k) for k in range(3)]
    a, b = noise_pair(seeds, 30, np.random.default_rng(9))
    assert a.prompts == b.prompts and len({p.id for p in a.prompts}) == 30
    assert not np.isclose(a.scores["clap"], b.scores["clap"]).any()
    c, d = halves_pair(seeds[0], 30, np.random.default_rng(9))
    assert not {p.id for p in c.prompts} & {p.id for p in d.prompts}
    with pytest.raises(ValueError, match="62 clips are wanted, s0 has 60"):
        halves_pair(seeds[0], 31, np.random.default_rng(9))


def test_finished_trials_are_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / f"trials-{fingerprint(bench())}.jsonl"
    wanted = [("noise", "", 4), ("halves", "", 3), ("noise", "hurt 1", 2)]
    whole = run_trials(bench(), wanted, path)
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 9
    path.write_text("".join(lines[:5]) + lines[5][:20])
    assert run_trials(bench(), wanted, path) == whole
    kept = path.read_text().splitlines(keepends=True)
    assert kept[:5] == lines[:5] and sorted(kept) == sorted(lines)
    assert fingerprint(bench()) != fingerprint(bench(shift=0.5))
    assert fingerprint(bench()) == fingerprint(bench())


def test_pages_show_rates_and_power(tmp_path: Path) -> None:
    found = run_trials(
        Bench({**bench().rows, "low_pass 8000": bench().rows["hurt 1"]}, "clap", reference(), (), 24, 39),
        [("noise", "", 5), ("halves", "", 5), ("noise", "low_pass 8000", 5)], tmp_path / "trials.jsonl",
    )  # fmt: skip
    frame = {"n": 24, "loudness": "locked", "material": "simulated", "reference": "sim", "resamples": 39,
             "judges": {"clap": "sim-1"}, "optimised": ["clap"]}  # fmt: skip
    result = alarms_cli.summary(found, frame)
    write_rates(result, tmp_path)
    text = (tmp_path / "error_rates.md").read_text()
    assert "whole family (Holm)" in text and "CLAP †" in text and "low-pass, Hz | 8000" in text
    assert (
        json.loads((tmp_path / "error_rates.json").read_text())["power"]["noise"]["low_pass"]["8000"]["fad"]["trials"]
        == 5
    )
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("false_alarms.png", "power.png"))


def test_every_value_lies_in_its_own_interval(tmp_path: Path) -> None:
    """MAD finds other cells for a row alone than for a pair of rows; on real clips that put a value beside its bar."""
    rows = [system(0), *(system(k, shift) for k, shift in enumerate((0.2, 0.6, 1.2, 1.8, 2.4), 1))]
    measures = set_measures(PROMPTS, "clap", reference(), extra=("mad", "diversity"))
    found = responses("white_noise", rows, measures, resamples=39)
    for r in found:
        assert all(low <= v <= high for low, v, high in zip(r.low, r.values, r.high, strict=True)), r
    [mad] = [r for r in found if r.measure == "mad"]
    alone = [measures["mad"].make(row.embeddings["clap"]).distance() for row in rows]
    assert mad.values[0] == alone[0] and mad.values != pytest.approx(alone, abs=1e-3)
    frame = {"n": PROMPTS, "clips": "simulated", "reference": "sim", "judges": {"clap": "sim-1"}, "optimised": []}
    write_page(result_of({"locked": {"white_noise": found}}, frame), tmp_path)
    assert (tmp_path / "ladders_locked.png").stat().st_size > 10_000


# ---- the real judges on real clips ----


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory: pytest.TempPathFactory):
    pytest.importorskip("music21")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLUXLIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_the_embedded_judges_answer_known_damage_as_they_must(small_corpus: None, tmp_path: Path) -> None:
    whole = load_judges("embedded")
    judges = Judges({"clap_b": whole.claps["clap_b"]}, {"reward_b": whole.rewards["reward_b"]})
    clips = corpus_clips("slice", 0, 4)
    ladders = ("white_noise", "gain", "wrong_captions")
    rows = climb(clips, judges, ladders, steps=slice(2, None, 2))
    # a FAD of four clips is all bias: KAD stands for the distances
    measures = {"kad": set_measures(4, "clap_b", corpus_reference(6, judges, "locked"))["kad"]}
    table = {name: responses(name, ladder, measures, resamples=19) for name, ladder in rows.items()}
    # four clips are too few for the interval of a distance: of it the direction alone is asked
    (kad,) = [r for r in table["white_noise"] if r.measure == "kad"]
    assert kad.values == sorted(kad.values) and kad.values[-1] > kad.values[0] + 2
    table["white_noise"] = [r for r in table["white_noise"] if r is not kad]
    result = result_of({"locked": table}, {"n": 4, "clips": "slice", "reference": "corpus", "optimised": [],
                                           "judges": judges.identities()})  # fmt: skip
    assert result["broken"] == []
    said = {(name, r.measure): r for name, ladder in table.items() for r in ladder}
    assert said["white_noise", "reward_b"].shape == "falls"
    assert said["gain", "reward_b"].shape == said["wrong_captions", "kad"].shape == "flat"
    assert said["wrong_captions", "clap_b"].values[0] - said["wrong_captions", "clap_b"].values[-1] > 0.2
    write_page(result, tmp_path)
    assert "Every demand holds" in markdown(result) and (tmp_path / "ladders_locked.png").stat().st_size > 10_000


def test_a_gain_is_shown_where_a_judge_hears_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that likes it loud falls along the ladder at delivered loudness, and is flat at locked loudness."""
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path))
    rng = np.random.default_rng(4)
    waves = [(rng.normal(size=2 * RATE) * rng.uniform(0.1, 0.4)).astype(np.float32) for _ in range(5)]
    clips = [LadderClip(Prompt(str(k), "tune"), np.clip(w, -1, 1), RATE) for k, w in enumerate(waves)]
    for protocol, shape in (("locked", "flat"), ("delivered", "falls")):
        rows = climb(clips, Judges({}, {"reward": SmallReward()}), ("gain",), protocol)["gain"]
        [found] = responses("gain", rows, {}, protocol)
        assert (found.shape, found.holds) == (shape, True)


def test_bad_arguments_are_one_line(small_corpus: None) -> None:
    for main, arguments, says in (
        (ladders_cli.main, ["--audio", "x", "--out", "o"], "--audio and --prompts belong together"),
        (ladders_cli.main, ["--clips", "2", "--out", "o"], "at least 1 step and 4 clips"),
        (alarms_cli.main, ["--model", "x", "--prompts", "p", "--out", "o"], "at least 2 are needed"),
        (alarms_cli.main, ["--data", "x", "--out", "o"], "--data and --data-prompts belong together"),
    ):
        with pytest.raises(ValueError, match=says):
            main(arguments)
    with pytest.raises(ValueError, match="nothing is unknown"):
        climb([LadderClip(Prompt("a", "b"), CLIP, RATE)], Judges(), ("nothing",))
