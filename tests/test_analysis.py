"""Analyses find what was put in, and verdicts follow the rule."""

from __future__ import annotations

import re

import numpy as np
import pytest

from experiments.cells.analysis import components, over_seeds, sd_interval
from experiments.verdicts import CANNOT, NOT, REPRODUCED, effect, exceeds, null, read_claims


def test_variance_components_find_what_was_put_in():
    rng = np.random.default_rng(0)
    seed, prompt, rest = 0.3, 1.0, 0.5
    found = [
        components(
            2 + seed * rng.normal(size=(6, 1)) + prompt * rng.normal(size=(1, 40)) + rest * rng.normal(size=(6, 40))
        )
        for _ in range(200)
    ]
    means = {key: np.mean([f[key] for f in found]) for key in ("seed", "prompt", "rest")}
    assert means["seed"] == pytest.approx(seed**2, rel=0.12)
    assert means["prompt"] == pytest.approx(prompt**2, rel=0.05)
    assert means["rest"] == pytest.approx(rest**2, rel=0.03)
    # without an effect of seeds, p is uniform: 5 % of the tests are below 0.05
    null_p = [components(rng.normal(size=(1, 20)) + rng.normal(size=(4, 20)))["p"] for _ in range(400)]
    assert 0.02 < np.mean(np.array(null_p) < 0.05) < 0.09
    with pytest.raises(ValueError, match="at least 2 seeds"):
        components(np.zeros((1, 5)))


def test_the_interval_of_a_standard_deviation_covers_it():
    rng = np.random.default_rng(1)
    found = [sd_interval(rng.normal(scale=2.0, size=5).tolist()) for _ in range(400)]
    assert 0.92 < np.mean([f["low"] <= 2.0 <= f["high"] for f in found]) < 0.98
    with pytest.raises(ValueError, match="at least 2"):
        sd_interval([1.0])


def test_the_interval_over_seeds_and_prompts_holds_both():
    rng = np.random.default_rng(2)

    def draw(k: int, spread: float) -> np.ndarray:
        return 1.0 + spread * rng.normal(size=(k, 1)) + rng.normal(size=(1, 50)) + 0.3 * rng.normal(size=(k, 50))

    calm, wild = over_seeds(draw(6, 0.0)), over_seeds(draw(6, 1.0))
    assert wild["high"] - wild["low"] > 1.5 * (calm["high"] - calm["low"]) and wild["seeds"] == 6
    covered = [f["low"] <= 1.0 <= f["high"] for f in (over_seeds(draw(3, 0.3)) for _ in range(300))]
    assert 0.9 < np.mean(covered) <= 0.99
    # a difference drops what prompts and seeds have in common
    y = draw(4, 1.0)
    change = over_seeds(y + 0.25, y)
    assert change["mean"] == pytest.approx(0.25) and change["high"] - change["low"] < 1e-9
    assert over_seeds(y + 0.25, y[:2])["seeds"] == 2
    with pytest.raises(ValueError, match="both need the same"):
        over_seeds(y, y[:, :7])


@pytest.mark.parametrize(
    ("value", "low", "high", "sign", "smallest", "size", "verdict"),
    [
        (-0.03, -0.05, -0.01, -1, 0.02, 0.025, REPRODUCED),
        (0.03, 0.01, 0.05, -1, 0.02, 0.025, NOT),
        (-0.01, -0.03, 0.01, -1, 0.02, 0.025, NOT),  # would have been seen
        (-0.01, -0.05, 0.03, -1, 0.06, 0.025, CANNOT),
        (0.01, -0.05, 0.07, 1, 0.01, None, CANNOT),  # no size to have seen
    ],
)
def test_the_rule_of_an_effect(value, low, high, sign, smallest, size, verdict):
    assert effect(value, low, high, sign, smallest, size) == verdict


def test_the_rules_of_a_null_and_of_a_spread():
    inside, across, beyond = (-0.01, 0.01), (-0.01, 0.03), (0.03, 0.05)
    assert [null(i, i, 0.02) for i in (inside, across, beyond)] == [REPRODUCED, CANNOT, NOT]
    assert null((-0.01, 0.021), (-0.008, 0.019), 0.02) == REPRODUCED, "two one-sided tests: the 90 % interval decides"
    # a verdict that other draws of the resamples would turn is none
    assert effect(-0.0053, -0.0112, -0.0002, -1, 0.008, 0.025, 0.0006) == CANNOT
    assert effect(-0.0053, -0.0112, +0.0002, -1, 0.008, 0.025, 0.0006) == CANNOT
    assert effect(-0.0053, -0.0092, -0.0012, -1, 0.008, 0.025, 0.0006) == REPRODUCED
    assert [exceeds(0.01, 0.03, 0.005), exceeds(0.01, 0.03, 0.02), exceeds(0.01, 0.03, 0.04)] == [
        REPRODUCED,
        CANNOT,
        NOT,
    ]


def test_every_claim_names_cells_that_are_there_and_a_source():
    found = read_claims()
    assert len(found) >= 15
    for claim in found:
        assert claim["published"] and re.match(r"FACTS \d|our question", claim["source"]), claim["claim"]
        wanted = {
            "effect": {"sign", "where"},
            "null": {"within", "where"},
            "exceeds": {"where", "than"},
            "none": {"reason"},
        }
        assert wanted[claim["kind"]] <= set(claim), claim["claim"]
