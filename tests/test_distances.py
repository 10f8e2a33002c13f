"""Distances and diversity of embeddings: closed forms, scipy, torchmetrics, and resampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg
from small_evaluation import sample

from fluxlight.metrics import (
    FrechetGram,
    KernelGram,
    clap_scores,
    diversity,
    diversity_per_prompt,
    fad,
    fad_to,
    frechet_distance,
    kad,
    moments,
    retrieval,
    shuffled_scores,
)
from fluxlight.metrics.diversity import DiversityGram
from fluxlight.metrics.mad import MauveGram, mad, mauve
from fluxlight.metrics.windows import WindowGram


def test_frechet_closed_forms() -> None:
    d = 16
    mean, cov = np.linspace(-1, 1, d), np.diag(np.linspace(0.1, 3, d))
    assert frechet_distance(mean, cov, mean, cov) == pytest.approx(0, abs=1e-9)
    # shifted mean: |shift|^2; scaled covariance with a common eigenbasis: sum (a - b)^2 of the standard deviations
    assert frechet_distance(mean + 2, cov, mean, cov) == pytest.approx(4 * d)
    assert frechet_distance(mean, 4 * cov, mean, cov) == pytest.approx(np.trace(cov))


def test_frechet_agrees_with_scipy_and_torchmetrics() -> None:
    x, y = sample(300, 24, 0), sample(400, 24, 1, 0.3, 1.2)
    (m1, c1), (m2, c2) = moments(x), moments(y)
    expected = np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)
    assert fad(x, y) == pytest.approx(expected, rel=1e-8)
    from torchmetrics.image.fid import _compute_fid

    theirs = _compute_fid(*(torch.from_numpy(v) for v in (m1, c1, m2, c2)))
    assert fad(x, y) == pytest.approx(float(theirs), rel=1e-8)


@pytest.mark.parametrize("n", [5, 40, 90])
def test_gram_form_is_the_same_distance(n: int) -> None:
    x, (mean, cov) = sample(n, 32, 2), moments(sample(200, 32, 3, 0.2))
    gram = FrechetGram(x, mean, cov)
    direct = frechet_distance(*moments(x), mean, cov)
    assert gram.distance() == pytest.approx(direct, rel=1e-7)
    index = np.random.default_rng(4).integers(0, n, n)
    counts = np.bincount(index, minlength=n)
    assert gram.distance(counts) == pytest.approx(frechet_distance(*moments(x[index]), mean, cov), rel=1e-6)
    kernel, other = KernelGram(x, sample(200, 32, 3)), kad(x[: n - 1], sample(200, 32, 3))
    assert kernel.distance(np.r_[np.ones(n - 1), 0]) == pytest.approx(other, rel=1e-9)


def test_order_does_not_matter_and_self_distance_is_zero() -> None:
    x, y = sample(60, 12, 5), sample(80, 12, 6)
    order = np.random.default_rng(7).permutation(60)
    assert fad(x[order], y) == pytest.approx(fad(x, y), rel=1e-9)
    assert kad(x[order], y) == pytest.approx(kad(x, y), rel=1e-9)
    assert fad(x, x) == pytest.approx(0, abs=1e-6)


def test_kad_is_unbiased_where_fad_is_not() -> None:
    reference = sample(400, 48, 8)
    values = [(fad(e, reference), kad(e, reference)) for e in (sample(60, 48, 100 + k) for k in range(40))]
    fads, kads = np.array(values).T
    assert fads.min() > 1, "FAD of small samples of the same distribution is far from 0"
    assert abs(kads.mean()) < 3 * kads.std(ddof=1) / np.sqrt(40), "KAD sits at 0"
    assert kad(sample(60, 48, 9, shift=1.0), reference) > 10 * kads.std()


def test_kad_by_hand() -> None:
    x, y = np.array([[0.0], [1.0]]), np.array([[0.0], [2.0], [5.0]])
    k = lambda a, b: np.exp(-((a - b) ** 2) / (2 * 3.0**2))  # noqa: E731  median of distances 2, 3, 5 is 3
    own, ref = k(0, 1), np.mean([k(0, 2), k(0, 5), k(2, 5)])
    cross = np.mean([k(a, b) for a in (0, 1) for b in (0, 2, 5)])
    assert kad(x, y) == pytest.approx(100 * (own + ref - 2 * cross))


@pytest.mark.parametrize("measure", [fad, kad])
def test_bad_input_is_refused(measure) -> None:
    y = sample(10, 4, 0)
    with pytest.raises(ValueError, match="n = 1"):
        measure(y[:1], y)
    with pytest.raises(ValueError, match="one embedder"):
        measure(sample(10, 5, 0), y)
    broken = y.copy()
    broken[3, 0] = np.nan
    with pytest.raises(ValueError, match=r"rows \[3\]"):
        measure(broken, y)


def test_clap_scores_and_diversity() -> None:
    text = np.eye(6)
    assert clap_scores(3 * text, text) == pytest.approx(np.ones(6))
    assert shuffled_scores(text, text) == pytest.approx(np.zeros(6))
    assert retrieval(text, text, 1) == 1
    assert diversity(text) == pytest.approx(1) and diversity(np.ones((4, 3))) == pytest.approx(0)
    stacked = np.concatenate([text, text])
    assert diversity_per_prompt(stacked, list("abcdef") * 2) == pytest.approx(0)
    with pytest.raises(ValueError, match="one clip"):
        diversity_per_prompt(text, list("abcdef"))


def test_mad_rises_with_distance_and_ignores_order() -> None:
    x, y = sample(200, 8, 20), sample(300, 8, 21)
    same, near, far = mad(x, y), mad(x + 0.4, y), mad(x + 3, y)
    assert 0 <= same < near < far and same < 0.3
    order = np.random.default_rng(22).permutation(200)
    assert mad(x[order], y) == pytest.approx(mad(x, y), abs=1e-12)
    assert mauve([0.25, 0.75], [0.25, 0.75]) == pytest.approx(1)
    assert mauve([0.3, 0.7], [0.6, 0.4]) == pytest.approx(mauve([0.6, 0.4], [0.3, 0.7]), abs=1e-4)
    with pytest.raises(ValueError, match="n = 1"):
        mad(x[:1], y)


def test_grams_of_mad_and_diversity_follow_resamples() -> None:
    x, y = sample(60, 8, 31), sample(200, 8, 32)
    counts = np.bincount(np.random.default_rng(33).integers(0, 60, 60), minlength=60)
    half = np.r_[np.ones(30), np.zeros(30)]
    assert DiversityGram(x).distance() == pytest.approx(diversity(x))
    assert DiversityGram(x).distance(half) == pytest.approx(diversity(x[:30]))
    assert DiversityGram(np.repeat(x, 2, 0)).distance() < diversity(x), "copies in the sample count, resamples do not"
    gram = MauveGram(x, y)
    assert gram.distance() == pytest.approx(mad(x, y)) and gram.distance(counts) != gram.distance()
    order = np.random.default_rng(34).permutation(60)
    assert MauveGram(x[order], y).distance(counts[order]) == pytest.approx(gram.distance(counts))
    with pytest.raises(ValueError, match="2 different clips"):
        DiversityGram(x).distance(np.eye(60)[0] * 5)


def test_fad_of_pooled_windows_under_resampling() -> None:
    rng = np.random.default_rng(35)
    clips = [sample(int(w), 6, 40 + k) for k, w in enumerate(rng.integers(8, 11, 12))]
    mean, cov = moments(sample(200, 6, 36, 0.2))
    gram = WindowGram(clips, mean, cov)
    assert gram.n == 12
    assert gram.distance() == pytest.approx(fad_to(np.concatenate(clips), mean, cov), rel=1e-9)
    counts = np.bincount(rng.integers(0, 12, 12), minlength=12)
    drawn = np.concatenate([clip for clip, times in zip(clips, counts, strict=True) for _ in range(times)])
    assert gram.distance(counts) == pytest.approx(fad_to(drawn, mean, cov), rel=1e-9)
    with pytest.raises(ValueError, match="one embedder"):
        WindowGram(clips, mean[:3], cov[:3, :3])
