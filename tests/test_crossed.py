"""Training seeds, noise seeds and prompts together; one interval everywhere; what counts as unchanged; two halves."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from small_evaluation import IDS, PROMPTS, SECONDS, judges, prompts_file, render, run, sample, world  # noqa: F401

from fluxlight.cli import main as fluxlight
from fluxlight.evaluation.evaluate import evaluate
from fluxlight.metrics import FrechetGram, moments
from fluxlight.metrics.crossed import crossed
from fluxlight.metrics.resampling import change_of_runs, distance_change, quantile_error
from fluxlight.metrics.statistics import equivalence, paired, share_interval
from fluxlight.prompts import HALVES, Prompt, half_of, take_half


def main(words: list[str]) -> int:
    """``fluxlight evaluate``, as a user runs it."""
    return fluxlight(["evaluate", *words])


def draw(rng: np.random.Generator, k: int, j: int, training: float, noise: float, n: int = 40) -> np.ndarray:
    """Values (trainings, noises, prompts) around 0 with effects of all three."""
    return (training * rng.normal(size=(k, 1, 1)) + noise * rng.normal(size=(1, j, 1)) + rng.normal(size=(1, 1, n))
            + 0.5 * rng.normal(size=(k, j, n)))  # fmt: skip


def of_values(y: np.ndarray):
    each = y.mean((0, 1))
    return crossed(y.mean(2), each.var(ddof=1) / each.size, each.size)


@pytest.mark.parametrize(("k", "j", "training", "noise"), [(3, 1, 0.0, 0.0), (3, 1, 1.0, 0.0), (3, 2, 0.3, 0.3)])
def test_the_crossed_interval_covers_with_three_seeds(k: int, j: int, training: float, noise: float) -> None:
    rng = np.random.default_rng(0)
    found = [of_values(draw(rng, k, j, training, noise)) for _ in range(600)]
    covered = np.mean([f.low <= 0 <= f.high for f in found])
    # the percentiles of three seeds would cover three of four
    assert 0.91 <= covered <= 0.985
    assert np.mean([f.p < 0.05 for f in found]) == pytest.approx(1 - covered)


def test_one_run_a_row_is_the_paired_test_and_says_what_it_cannot_tell() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.3, 1, 30), rng.normal(size=30)
    found, plain = crossed([[x.mean()]], (x - y).var(ddof=1) / 30, 30, [[y.mean()]]), paired(x, y)
    assert (found.low, found.high, found.low90, found.p) == pytest.approx(
        (plain.low, plain.high, plain.low90, plain.p_t)
    )
    assert found.parts["training"] is None and found.parts["noise"] is None and found.training_seeds == [1, 1]


def test_paired_trainings_lose_what_they_share_and_unequal_ones_do_not() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=(4, 1))
    same = crossed(y + 0.25, 1e-6, 50, y)
    apart = crossed(y + 0.25, 1e-6, 50, y[:2])
    assert same.value == pytest.approx(0.25) and same.high - same.low < 0.01
    assert apart.high - apart.low > 1 and apart.training_seeds == [4, 2]
    with pytest.raises(ValueError, match="share their noise"):
        crossed(np.ones((2, 2)), 1.0, 5, np.ones((2, 1)))


def test_a_comparison_has_one_interval_however_many_permutations_its_table_takes() -> None:
    x, y, (mean, cov) = sample(20, 6, 1), sample(20, 6, 2, 0.2), moments(sample(80, 6, 3))
    found = [distance_change(lambda e: FrechetGram(e, mean, cov), x, y, resamples=k, draws=300) for k in (5, 40)]
    turned = distance_change(lambda e: FrechetGram(e, mean, cov), y, x, resamples=5, draws=300)
    assert [(f.low, f.high, f.monte_carlo) for f in found] == [(found[0].low, found[0].high, found[0].monte_carlo)] * 2
    assert (turned.low, turned.high) == pytest.approx((-found[0].high, -found[0].low))
    # the error that is stated is what other seeds give: in 95 of 100 the end lies no further off
    ends = [distance_change(lambda e: FrechetGram(e, mean, cov), x, y, 2, s, draws=300).low for s in range(20)]
    assert 0.3 < 1.96 * np.std(ends, ddof=1) / found[0].monte_carlo < 3
    draws = np.random.default_rng(4).normal(size=4000)
    exact = 1.96 * np.sqrt(0.025 * 0.975 / 4000) / stats.norm.pdf(stats.norm.ppf(0.025))
    assert quantile_error(draws, 0.025) == pytest.approx(exact, rel=0.4)


def test_several_runs_of_a_set_measure() -> None:
    mean, cov = moments(sample(80, 6, 3))
    make = lambda e: FrechetGram(e, mean, cov)  # noqa: E731
    x, y = sample(20, 6, 1), sample(20, 6, 2, 0.2)
    first, second, variance = change_of_runs(make, [[x], [y]], [[y]], draws=200)
    assert first.shape == (2, 1) and second.shape == (1, 1) and variance > 0
    assert first[:, 0] == pytest.approx([make(x).distance(), make(y).distance()])
    alone = distance_change(make, x, y, 2, draws=200)
    _, _, single = change_of_runs(make, [[x]], [[y]], draws=200)
    assert single**0.5 * 2.8016 == pytest.approx(alone.smallest, rel=1e-3)


def test_equivalence_is_two_one_sided_tests_with_room_for_monte_carlo_error() -> None:
    said = [
        equivalence((-0.012, 0.012), (-0.01, 0.01), 0.02),
        equivalence((-0.01, 0.021), (-0.008, 0.019), 0.02),  # the 90 % interval decides
        equivalence((-0.01, 0.021), (-0.008, 0.019), 0.02, 0.002),
        equivalence((0.03, 0.05), (0.032, 0.048), 0.02),
        equivalence((0.021, 0.05), (0.022, 0.048), 0.02, 0.002),
    ]
    assert said == ["unchanged", "unchanged", "cannot tell", "changed", "cannot tell"]
    with pytest.raises(ValueError, match="above 0"):
        equivalence((0, 0), (0, 0), 0)
    # one-sided t tests by scipy: both reject exactly where the 90 % interval lies inside
    rng = np.random.default_rng(5)
    for _ in range(50):
        d = rng.normal(0, 1, 30)
        found = paired(d, np.zeros(30))
        both = max(stats.ttest_1samp(d, -0.3, alternative="greater").pvalue,
                   stats.ttest_1samp(d, 0.3, alternative="less").pvalue) < 0.05  # fmt: skip
        assert (equivalence((found.low, found.high), (found.low90, found.high90), 0.3) == "unchanged") == both


def test_shares_have_wilsons_interval() -> None:
    assert share_interval(8, 10) == pytest.approx(stats.binomtest(8, 10).proportion_ci(method="wilson"))
    assert share_interval(0, 5)[0] == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="7 of 5"):
        share_interval(7, 5)


def test_halves_part_every_list_alike() -> None:
    prompts = [Prompt(str(k), "x") for k in range(400)]
    halves = [take_half(prompts, half) for half in HALVES]
    assert sorted(p.id for half in halves for p in half) == sorted(p.id for p in prompts)
    assert 160 < len(halves[0]) < 240 and take_half(prompts, None) == prompts
    assert take_half(prompts[::-7], "choose") == [p for p in prompts[::-7] if half_of(p.id) == "choose"]
    with pytest.raises(ValueError, match="choose one of"):
        take_half(prompts, "test")


def test_a_row_of_several_trainings_in_a_table(world, capsys) -> None:  # noqa: F811
    folder, systems, _ = world
    more = {name: str(render(folder / name, seed, 0.02)) for seed, name in enumerate(("b", "c", "b2", "a2"), 7)}
    claps, rewards = judges()
    runs = {"row1": [[systems["row1"], more["a2"]], [more["b"], more["b2"]]]}
    result = evaluate(systems, PROMPTS, None, claps, rewards, seconds=SECONDS, runs=runs, margins={"reward_b": 5.0})
    table = result["tables"]["locked"]
    row, c = table["systems"]["row1"], next(c for c in table["comparisons"] if c["metric"] == "reward_b")
    assert (row["noise_seeds"], row["training_seeds"], len(row["runs"])) == (2, 2, 4)
    assert (c["noise_seeds"], c["training_seeds"], c["n"], c["test"]) == (1, [2, 1], len(IDS), "crossed t")
    assert c["equivalence"] == "unchanged" and c["margin"] == 5.0
    each = [r["scores"]["reward_b"] for r in row["runs"]]
    assert row["scores"]["reward_b"]["mean"] == pytest.approx(np.mean(each))
    with pytest.raises(ValueError, match="equally many"):
        evaluate(systems, PROMPTS, None, claps, rewards, seconds=SECONDS, runs={"row1": [[*runs["row1"][0]], ["c"]]})
    with pytest.raises(ValueError, match="row9 is no row"):
        evaluate(systems, PROMPTS, None, claps, rewards, seconds=SECONDS, runs={"row9": [["b"]]})


def test_scores_of_one_half_with_a_margin(tmp_path, capsys) -> None:
    """The command line: judge one half, print margin and verdict, and say which half it was."""
    scores = {p["id"]: {"a": k % 3, "b": k % 3 + 0.001 * (k % 2)} for k, p in enumerate(PROMPTS)}
    (tmp_path / "s.json").write_text(json.dumps(scores))
    words = ["--scores", f"mos={tmp_path / 's.json'}", "--prompts", str(prompts_file(tmp_path)), "--out"]
    assert main([*words, str(tmp_path / "out"), "--half", "report", "--margin", "mos=0.1"]) == 0
    result = json.loads((tmp_path / "out/table.json").read_text())
    n = len([i for i in IDS if half_of(i) == "report"])
    assert result["frame"]["n"] == n and result["frame"]["half"] == "report"
    text = capsys.readouterr().out
    assert "chosen on the other half" in text and "0.1: unchanged" in text and f"over {n} prompts; one noise" in text
    assert main([*words, str(tmp_path / "out"), "--margin", "fad=0.1"]) == 2
    assert "fad is no measure here" in capsys.readouterr().err
