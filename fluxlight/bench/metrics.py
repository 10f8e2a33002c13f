"""Statistics of the table: resamples of a FAD difference, the Gram form against the direct one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fluxlight.bench.measure import Line, Settings, duration


def lines(settings: Settings, resamples: int = 2000) -> Iterator[Line]:
    """Joint resamples of a FAD difference, 512 dimensions, 100 against 700 clips."""
    from fluxlight.metrics import FrechetGram, fad_to, moments
    from fluxlight.metrics.resampling import distance_change

    source = np.random.default_rng(0)
    reference, first, second = (source.standard_normal((n, 512)) for n in (700, 100, 100))
    mean, covariance = moments(reference)

    def make(x: np.ndarray) -> FrechetGram:
        return FrechetGram(x, mean, covariance)

    settings.say("metrics: resamples of a FAD difference")
    whole = settings.seconds(lambda: distance_change(make, first, second, resamples=resamples), 1)
    direct = settings.seconds(lambda: fad_to(first, mean, covariance))
    gram, counts = make(first), np.ones(100)
    fast = settings.seconds(lambda: gram.distance(counts))
    what = f"FAD difference, {resamples:,} resamples and permutations"
    ratio = f"one resample {direct / fast:.0f} x faster than direct"
    yield Line("metrics", what, duration(whole), ratio, {"seconds": whole, "direct_over_gram": direct / fast})
