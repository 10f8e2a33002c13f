"""The stop rule: its level is kept over many looks that hang together, and a real decline is seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fluxlight.measures import MEASURES
from fluxlight.metrics import Reference
from fluxlight.validity.stop_alarms import Course, stop_rate
from fluxlight.validity.stop_rule import StopRule, p_of_rise, score_change, set_change, spent


def test_what_all_looks_spend_is_alpha() -> None:
    assert sum(spent(m, 0.05) for m in range(1, 200_000)) == pytest.approx(0.05, rel=1e-5)
    assert spent(1, 0.05) == pytest.approx(0.3 / math.pi**2)
    with pytest.raises(ValueError, match="looks count from 1"):
        spent(0, 0.05)


@pytest.mark.parametrize("course", [
    Course(within=0.8), Course(within=0.0, measures=4, between=0.0), Course(within=0.98, prompts=50, looks=80),
    Course(skewed=True), Course(skewed=True, prompts=50, within=0.5),
], ids=str)  # fmt: skip
def test_a_run_in_which_nothing_gets_worse_is_stopped_at_most_at_alpha(course: Course) -> None:
    """A/A: the 95 % interval of the measured rate must reach down to alpha."""
    assert stop_rate(course, 600, alpha=0.05, seed=1).low <= 0.05


def test_looking_without_the_rule_stops_many_sound_runs() -> None:
    assert stop_rate(Course(), 200, naive=True).low > 0.3


def test_a_decline_is_seen() -> None:
    found = stop_rate(Course(decline=1.0), 200)
    assert found.rate > 0.9 and found.look < 32
    assert stop_rate(Course(decline=1.0, skewed=True), 200).rate > 0.3
    assert stop_rate(Course(decline=-1.0), 200).rate <= 0.05, "a gain never stops"


def test_a_change_is_that_of_the_t_test_where_nothing_is_skewed() -> None:
    draw = np.random.default_rng(0).normal(size=20)
    delta, start = np.concatenate([draw, -draw]) - 0.2, np.random.default_rng(1).normal(size=40)
    found = score_change(start + delta, start)
    truth = stats.ttest_1samp(delta, 0.0, alternative="less")
    assert truth.pvalue < found.p < 2 * truth.pvalue and found.change == pytest.approx(-0.2), "a little safer"
    assert p_of_rise(-truth.statistic, math.sqrt(6 / 40), 40) == pytest.approx(truth.pvalue)
    assert found.low < -0.2 < found.high and found.n == 40
    allowed = score_change(start + delta, start, tolerance=0.2 / start.std(ddof=1))
    assert allowed.p == pytest.approx(0.5, abs=0.02)
    assert p_of_rise(1.0, 2.0, 20) < p_of_rise(1.0, 0.0, 20)
    with pytest.raises(ValueError, match="the same 2 prompts or more"):
        score_change(start, start[:5])


def test_differences_without_any_spread() -> None:
    start = np.arange(30.0)
    same, down = score_change(start, start), score_change(start - 0.5, start)
    assert same.p == 1 and same.change == 0 and down.p == 2.0**-30 and down.change == -0.5
    assert not StopRule().judge(1, {"a": same}).stop and StopRule().judge(99, {"a": same, "b": down}).stop


def test_collapse_and_distance_of_the_whole_set_are_tested_too() -> None:
    draw = np.random.default_rng(2)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    start = unit(draw.normal(size=(32, 8)))
    again, collapsed = unit(start + 0.1 * draw.normal(size=start.shape)), unit(start + 3.0)
    reference = Reference.from_embeddings(unit(draw.normal(size=(60, 8))), "judge", 8000)
    kad, diversity = MEASURES["kad"](32, reference).gram, MEASURES["diversity"](32).gram
    rule = StopRule()
    for make, lower in ((kad, True), (diversity, False)):
        assert set_change(make, start, start, lower).p == 1
        assert not rule.judge(2, {"set": set_change(make, again, start, lower)}).stop
        found = set_change(make, collapsed, start, lower)
        assert rule.judge(20, {"set": found}).stop and (found.change > 0) == lower
        assert set_change(make, start, collapsed, lower).p > 0.99


def test_settings_that_make_no_sense_are_refused() -> None:
    for settings, said in (({"alpha": 0.0}, "alpha is above 0"), ({"tolerance": -1.0}, "tolerance is -1.0")):
        with pytest.raises(ValueError, match=said):
            StopRule(**settings)
