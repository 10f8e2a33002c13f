"""Statistics against scipy, closed forms and simulation: intervals cover, A/A stays silent, damage is seen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fluxlight.metrics import FrechetGram, KernelGram, fad, moments
from fluxlight.metrics.resampling import distance_change, jackknife, real_floor
from fluxlight.metrics.statistics import holm, paired, slope, smallest_effect, spearman, t_interval


def test_paired_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40)
    found = paired(x, y)
    theirs = stats.ttest_rel(x, y)
    interval = theirs.confidence_interval(0.95)
    assert (found.t, found.p_t) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(x - y).pvalue)
    assert found.wins + found.losses + found.ties == 40 and found.wins == (x > y).sum()
    assert found.effect == pytest.approx((x - y).mean() / (x - y).std(ddof=1))
    assert (found.bootstrap_low, found.bootstrap_high) == pytest.approx((found.low, found.high), abs=0.08)


def test_paired_without_differences() -> None:
    same = paired(np.ones(5), np.ones(5))
    assert (same.difference, same.p_t, same.p_wilcoxon, same.ties) == (0, 1, 1, 5)
    constant = paired(np.ones(5) * 2, np.ones(5))
    assert (constant.t, constant.effect, constant.p_t) == (None, None, 2**-4)


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        t_interval([1.0])
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        t_interval([1.0, np.nan, 2.0])
    with pytest.raises(ValueError, match="same prompts"):
        paired([1.0, 2.0], [1.0, 2.0, 3.0])


def test_holm_by_hand() -> None:
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert holm(p) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_smallest_effect_is_what_a_test_sees_in_four_of_five() -> None:
    n, sd = 50, 2.0
    effect = smallest_effect(sd, n)
    rng = np.random.default_rng(1)
    seen = np.mean([stats.ttest_1samp(rng.normal(effect, sd, n), 0).pvalue < 0.05 for _ in range(1000)])
    assert seen == pytest.approx(0.8, abs=0.05)


def test_interval_covers() -> None:
    rng = np.random.default_rng(2)
    inside = [(i := t_interval(rng.normal(3, 1, 12))).low < 3 < i.high for _ in range(1000)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.025)


def test_slope_and_rank_agreement() -> None:
    s = [0.0, 1.0, 2.0, 4.0]
    prompts = np.random.default_rng(3).normal(0, 10, 30)  # prompts differ by far more than s does
    found = slope(s, np.array(s)[:, None] * 0.2 + prompts + np.random.default_rng(4).normal(0, 0.05, (4, 30)))
    assert found.low < 0.2 < found.high and found.high - found.low < 0.02
    assert spearman([1, 2, 3, 4], [10, 20, 25, 90]) == pytest.approx(1)
    assert spearman([1, 1, 1], [1, 2, 3]) == 0


# ---- FAD and KAD under resampling ----

N, D = 40, 24
rng0 = np.random.default_rng(5)
SHAPE = rng0.normal(size=(D, D)) * np.exp(-np.arange(D) / 8)
CENTRE = 2 * rng0.normal(size=D)


def draw(rng: np.random.Generator, content: np.ndarray | None = None, shift: float = 0.0, n: int = N) -> np.ndarray:
    """Clips on the unit sphere; ``content`` is what the prompt fixes and another noise seed does not change."""
    own = rng.normal(size=(n, D))
    mixed = own if content is None else 0.7 * content + 0.71 * own
    rows = mixed @ SHAPE.T + CENTRE + shift
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


REFERENCE = draw(np.random.default_rng(6), n=300)
MEAN, COV = moments(REFERENCE)


def test_jackknife_says_how_much_a_fad_moves() -> None:
    rng = np.random.default_rng(7)
    found = [jackknife(FrechetGram(draw(rng, shift=0.5), MEAN, COV)) for _ in range(40)]
    spread = np.std([f.value for f in found], ddof=1)
    assert np.mean([f.se for f in found]) == pytest.approx(spread, rel=0.6)
    assert all(f.low < f.value < f.high for f in found)


def test_same_model_other_noise_raises_no_alarm() -> None:
    """A/A: 200 comparisons of a model with itself under another noise seed."""
    rng = np.random.default_rng(8)
    alarms, covered = 0, 0
    for k in range(200):
        content = rng.normal(size=(N, D))
        pair = draw(rng, content, 0.5), draw(rng, content, 0.5)
        change = distance_change(lambda x: FrechetGram(x, MEAN, COV), *pair, resamples=49, seed=k, draws=99)
        alarms += change.p < 0.05
        covered += change.low <= 0 <= change.high
    # 200 trials at 5 % raise more than 18 with probability 0.8 %
    assert alarms <= 18
    assert covered >= 182


@pytest.mark.parametrize("make", [lambda x: FrechetGram(x, MEAN, COV), lambda x: KernelGram(x, REFERENCE)])
def test_a_real_change_is_seen(make) -> None:
    rng = np.random.default_rng(9)
    content = rng.normal(size=(N, D))
    change = distance_change(make, draw(rng, content, 1.0), draw(rng, content, 0.2), resamples=199)
    assert change.p < 0.02 and change.low > 0 and change.difference > change.smallest
    back = distance_change(make, draw(rng, content, 0.2), draw(rng, content, 1.0), resamples=199)
    assert back.difference < 0 and back.high < 0


def test_resampling_is_reproducible_and_draws_nothing_global() -> None:
    rng = np.random.default_rng(10)
    pair = draw(rng), draw(rng)
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    one, two = (distance_change(lambda x: FrechetGram(x, MEAN, COV), *pair, resamples=20, seed=3) for _ in range(2))
    assert one == two and np.array_equal(before, np.random.get_state()[1])
    with pytest.raises(ValueError, match="same prompts"):
        distance_change(lambda x: FrechetGram(x, MEAN, COV), pair[0], pair[1][:-1])


def test_floor_is_what_the_same_distribution_scores() -> None:
    floor = real_floor(fad, REFERENCE, N, repeats=10)
    fresh = fad(draw(np.random.default_rng(11)), REFERENCE)
    assert floor.low * 0.7 < fresh < floor.high * 1.3 and floor.mean > 0
    assert fad(draw(np.random.default_rng(12), shift=1.0), REFERENCE) > 2 * floor.mean
    with pytest.raises(ValueError, match="cannot hold out 299"):
        real_floor(fad, REFERENCE, 299)
