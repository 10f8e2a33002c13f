"""Win rates against closed forms, and by simulation with planted listeners: intervals cover, no judge misleads."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fluxlight.listening.judges import judged, margins_of, preference
from fluxlight.listening.winrate import alpha_of_look, powered_rate, sign_test, vote_rate, votes_needed

RUNS = 4000


def test_without_ties_the_interval_is_wilsons() -> None:
    votes = np.repeat([1.0, 0.0], [130, 70])
    theirs = stats.binomtest(130, 200).proportion_ci(method="wilson")
    found = vote_rate(votes)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-3)
    # at the normal quantile, to the last digit
    from fluxlight.listening import winrate

    low, high = winrate._score_interval(*map(np.array, (0.65, 0.0, 200.0)), float(stats.norm.ppf(0.975)))
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_ties_narrow_the_interval_and_nothing_empties_it() -> None:
    tied, split = (
        vote_rate(np.r_[np.full(40, 0.5), np.ones(10), np.zeros(10)]),
        vote_rate(np.r_[np.ones(30), np.zeros(30)]),
    )
    assert tied.rate == split.rate == 0.5 and tied.high - tied.low < split.high - split.low
    for votes in (np.ones(10), np.zeros(10), np.full(10, 0.5)):
        found = vote_rate(votes)
        assert 0 <= found.low <= found.rate <= found.high <= 1 and found.high - found.low > 0.05


def test_a_judge_takes_away_what_it_explains() -> None:
    """A regression estimator: 1 - r^2 M / N of the votes' variance is left, and the slope's own."""
    rng = np.random.default_rng(0)
    f = rng.normal(size=1000)
    y = (f[:100] + rng.normal(size=100) > 0).astype(float)
    found = powered_rate(y, f[:100], f[100:])
    slope, r = stats.linregress(f[:100], y)[0], np.corrcoef(f[:100], y)[0, 1]
    left = (1 - r**2) * 99 / 98
    assert found.rate == pytest.approx(y.mean() + slope * (f.mean() - f[:100].mean()))
    assert found.worth == pytest.approx(100 / (1 - 0.9 * ((1 - left) - left / 97)))
    # read backwards, on another scale: the same
    other = powered_rate(y, 7 - 3 * f[:100], 7 - 3 * f[100:])
    assert (other.rate, other.low, other.high) == pytest.approx((found.rate, found.low, found.high))


def test_a_judge_that_says_nothing_changes_nothing() -> None:
    votes = np.array([1.0, 0, 1, 0.5, 1, 1])
    alone = vote_rate(votes)
    for judge, others in ((np.ones(6), np.ones(20)), (np.arange(6.0), np.empty(0))):
        found = powered_rate(votes, judge, others)
        assert (found.rate, found.worth) == (alone.rate, 6) and found.low == pytest.approx(alone.low, abs=0.06)
    with pytest.raises(ValueError, match="5 scores for 6 votes"):
        powered_rate(votes, np.ones(5), np.ones(3))
    with pytest.raises(ValueError, match="must lie in"):
        vote_rate([2.0, 1.0])


def planted(effect: float, kind: str, n: int, prompts: int, dead_zone: float, listeners: int = 1):
    """``RUNS`` sessions: votes ``(RUNS, n)``, judge on them and on the other prompts, and the true win rate.

    A prompt's advantage is drawn; a listener hears it with noise, and says tie when it is small.
    """
    rng = np.random.default_rng(1)
    advantage = rng.normal(effect, 1, (RUNS, prompts))
    heard = advantage[:, :n, None] + rng.normal(size=(RUNS, n, listeners))
    votes = np.where(np.abs(heard) < dead_zone, 0.5, heard > 0).mean(-1)
    noise = rng.normal(size=(RUNS, prompts))
    judge = {"good": advantage + 0.5 * noise, "useless": noise, "wrong": 0.5 * noise - advantage}[kind]
    law = stats.norm(effect, np.sqrt(2))
    truth = law.sf(dead_zone) + 0.5 * (law.cdf(dead_zone) - law.cdf(-dead_zone))
    return votes, judge[:, :n], judge[:, n:], truth


@pytest.mark.parametrize("kind", ["good", "useless", "wrong"])
@pytest.mark.parametrize(
    ("n", "prompts", "dead_zone", "listeners"), [(60, 300, 0, 1), (50, 100, 0.3, 1), (40, 400, 0.3, 3)]
)
def test_intervals_cover_and_false_alarms_are_few(
    kind: str, n: int, prompts: int, dead_zone: float, listeners: int
) -> None:
    for effect in (0.0, 0.5, 1.2):
        votes, judge, others, truth = planted(effect, kind, n, prompts, dead_zone, listeners)
        found, alone = powered_rate(votes, judge, others), vote_rate(votes)
        covered = ((found.low <= truth) & (truth <= found.high)).mean()
        assert 0.93 <= covered <= 0.97, (effect, covered)
        # without bias, and worth no less than the votes alone
        assert found.rate.mean() == pytest.approx(truth, abs=0.01)
        assert found.worth.min() >= n
        if kind == "useless":
            assert found.worth.mean() < 1.02 * n
        else:
            assert found.worth.mean() > 1.1 * n
            assert (found.high - found.low).mean() < 0.98 * (alone.high - alone.low).mean()
        if effect == 0:
            alarms = ((found.low > 0.5) | (found.high < 0.5)).mean()
            assert alarms <= 0.05, alarms


def test_the_sign_test_rarely_alarms_and_leaves_ties_out() -> None:
    assert sign_test(9, 1) == pytest.approx(stats.binomtest(9, 10).pvalue) and sign_test(0, 0) == 1
    votes, *_ = planted(0.0, "useless", 60, 60, 0.3)
    alarms = np.mean([sign_test(int((v > 0.5).sum()), int((v < 0.5).sum())) < 0.05 for v in votes])
    assert alarms <= 0.05


def test_as_many_votes_as_it_says_settle_the_question() -> None:
    n = int(votes_needed(0.65, 0.65 * 0.35))
    votes = np.random.default_rng(3).random((RUNS, n)) < 0.65
    found = vote_rate(votes)
    assert ((found.low > 0.5) | (found.high < 0.5)).mean() == pytest.approx(0.8, abs=0.06)
    assert votes_needed(0.5, 0.25) == np.inf and votes_needed(0.65, 0.2, explained=0.5) < votes_needed(0.65, 0.2)


def test_looking_often_raises_no_false_alarm() -> None:
    assert sum(alpha_of_look(k) for k in range(1, 10_000)) == pytest.approx(0.05, abs=1e-4)
    votes = (np.random.default_rng(4).random((RUNS, 100)) < 0.5).astype(float)
    once, planned = np.zeros(RUNS, bool), np.zeros(RUNS, bool)
    for look, n in enumerate(range(20, 101, 10), 1):
        for seen, alpha in ((once, 0.05), (planned, alpha_of_look(look))):
            found = vote_rate(votes[:, :n], alpha)
            seen |= (found.low > 0.5) | (found.high < 0.5)
    assert planned.mean() <= 0.05 < 0.1 < once.mean()


def test_a_judge_is_measured_by_what_was_planted() -> None:
    rng = np.random.default_rng(5)
    margin = rng.normal(0, 2, 4000)
    votes = (rng.random(4000) < 1 / (1 + np.exp(-margin))).astype(float)
    ids = [str(k) for k in range(4000)]
    calibrated, sure, wrong = (judged(s * margin, votes, ids) for s in (1, 3, -1))
    assert calibrated.slope == pytest.approx(1, abs=0.1) and calibrated.error < calibrated.chance
    assert sure.slope == pytest.approx(1 / 3, abs=0.04) and sure.error > sure.chance
    assert sure.accuracy == calibrated.accuracy == pytest.approx(1 - wrong.accuracy)
    assert calibrated.low < calibrated.accuracy < calibrated.high and wrong.slope < 0
    assert judged([1.0, 2.0], [0.5, 1.0], ["p", "q"]) is None and judged([1, 1], [0, 1], ["p", "p"]) is None
    # all right: no slope is the most likely one
    assert np.isnan(judged([1.0, 2.0, 1.0], [1.0, 1.0, 1.0], list("pqr")).slope)
    assert judged([0.0, 0.0], [1.0, 0.0], list("pq")).accuracy == 0.5
    # ten listeners who agree on two prompts are two prompts
    twice = judged([1.0, -1.0] * 10, [1.0, 1.0] * 10, list("pq") * 10)
    assert (twice.accuracy, twice.n) == (0.5, 20) and twice.high - twice.low > 0.9


def test_margins_come_from_a_table_of_scores() -> None:
    scores = {
        "p": {"x": {"r": 1.0, "c": 0.2}, "y": {"r": 3.0, "c": 0.1}},
        "q": {"x": {"r": 2.0}, "y": {"r": 2.5, "c": 0}},
    }
    found = margins_of(scores, "y", "x")
    assert found["ids"] == ["p", "q"] and found["margins"].keys() == {"r"}
    assert found["margins"]["r"].tolist() == [2.0, 0.5]
    assert preference(np.array([2.0, -2.0, 0.0])).tolist() == pytest.approx(
        [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1)), 0.5]
    )
    with pytest.raises(ValueError, match="system z is not there"):
        margins_of(scores, "z", "x")
