"""What a table costs: resamples of a FAD difference, and judging a folder of clips from start to end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fluxlight.bench.measure import Line, Settings, duration

CLIPS, SECONDS, JOBS = 100, 10.0, 2


def lines(
    settings: Settings, resamples: int = 2000, clips: int = CLIPS, clip_seconds: float = SECONDS
) -> Iterator[Line]:
    """Joint resamples of a FAD difference, 512 dimensions, 100 against 700 clips; evaluation of a folder."""
    from fluxlight.bench.evaluation import evaluation_seconds
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
    settings.say("metrics: fluxlight evaluate, nothing cached")
    # once and in a process of its own, as a user starts it: a second run would find everything cached
    took = evaluation_seconds(clips, clip_seconds, JOBS)
    what = f"evaluate: {clips} clips of {clip_seconds:g} s, embedded judges, {JOBS} processes"
    real_time = clips * clip_seconds / took
    data = {"seconds": took, "clips": clips, "clip_seconds": clip_seconds, "jobs": JOBS, "times_real_time": real_time}
    yield Line("metrics", what, duration(took), f"{real_time:.0f} x real time", data)
