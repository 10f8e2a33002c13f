"""Headroom: how far rows are from real clips, and whether codec, generator or judge stands between.

Steps on the same prompts: real clips, their codec round trip, the round trip with noise on its latents, and rows of a
model. What the round trip loses no generator of these latents can gain (codec); what lies between round trip and row is
the generator's; and a judge that cannot tell the round trip from its noisiest copy cannot show a gain (judge).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fluxlight.clips.resample import resample
from fluxlight.codec import Codec
from fluxlight.evaluation.judging import Judges
from fluxlight.evaluation.measure import PerClip
from fluxlight.evaluation.sets import set_measures
from fluxlight.measures import better
from fluxlight.metrics.reference import Reference
from fluxlight.metrics.resampling import jackknife
from fluxlight.metrics.statistics import paired, t_interval
from fluxlight.prompts import Prompt
from fluxlight.sample import noise
from fluxlight.validity.climb import CLEAN, LadderClip, judge_rungs

REAL, ROUND_TRIP, FAULTY = "real", "round trip", "faulty"
NOISE = (0.2, 0.4, 0.8)
"""Noise on the latents, in standard deviations of their channels (our choice)."""
BATCH = 8  # clips in the codec at a time


def encoded(clips: Sequence[LadderClip], codec: Codec) -> Tensor:
    """Latents ``(n, L, D)`` of clips, codec units; a clip of another length is cut or padded as a store does."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(clips), BATCH):
            waves = []
            for clip in clips[start : start + BATCH]:
                wave = torch.from_numpy(np.nan_to_num(np.asarray(clip.audio, dtype=np.float32)))[None]
                if clip.sample_rate != codec.sample_rate:
                    wave = resample(wave, clip.sample_rate, codec.sample_rate)
                waves.append(codec.fit_length(wave))
            parts.append(codec.encode(torch.cat(waves))[0].float())
    return torch.cat(parts)


def decoded(latents: Tensor, prompts: Sequence[Prompt], codec: Codec) -> list[LadderClip]:
    """Clips of latents ``(n, L, D)``, codec units."""
    with torch.no_grad():
        parts = [codec.decode(latents[start : start + BATCH]) for start in range(0, len(latents), BATCH)]
    waves = torch.cat(parts).float().numpy()
    return [LadderClip(prompt, wave, codec.sample_rate) for prompt, wave in zip(prompts, waves, strict=True)]


def steps(
    clips: Sequence[LadderClip], codec: Codec, levels: Sequence[float] = NOISE, seed: int = 0
) -> Iterator[tuple[str, list[LadderClip]]]:
    """The steps made of real clips, one in memory at a time: name -> clips in the same order.

    Args:
        clips: real ones.
        codec: of the world.
        levels: of the noise, in standard deviations of each channel over the clips.
        seed: of the noise, which is one draw at all levels.
    """
    yield REAL, list(clips)
    prompts, latents = [clip.prompt for clip in clips], encoded(clips, codec)
    yield ROUND_TRIP, decoded(latents, prompts, codec)
    scale, draw = latents.std(dim=(0, 1)), noise(range(seed, seed + len(clips)), *latents.shape[1:])
    for level in levels:
        yield noise_name(level), decoded(latents + level * scale * draw, prompts, codec)


def noise_name(level: float) -> str:
    """Name of a step with noise."""
    return f"noise {level:g} sd"


def judged(name: str, clips: Sequence[LadderClip], judges: Judges, protocol: str, jobs: int, progress: bool) -> PerClip:
    """What the judges say of a step."""
    return replace(judge_rungs(clips, judges, [CLEAN], protocol, jobs, progress)[0], system=name)


def headroom(
    rows: Sequence[PerClip], names: Sequence[str], levels: Sequence[float], reference: Reference | None = None,
    faulty: PerClip | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The ladder as plain values.

    Args:
        rows: real, round trip and noise in this order, then the rows of models, all on the same prompts.
        names: of the rows of models.
        levels: of the noise.
        reference: for FAD and KAD.
        faulty: clips with known faults, on other prompts.

    Returns:
        ``order`` of the steps and ``metrics`` in table order; ``steps`` name -> measure -> value with its interval;
        ``gaps`` row -> measure -> where the gap comes from.
    """
    judge, by_name = next(iter(rows[0].embeddings)), {row.system: row for row in rows}
    sets = set_measures(len(rows[0].prompts), judge, reference)

    def said(row: PerClip) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if reference is not None:
            for name, measure in set_measures(len(row.prompts), judge, reference).items():
                value = jackknife(measure.make(measure.clips(row)))
                found[name] = {"value": value.value, "low": value.low, "high": value.high}
        for name, scores in row.scores.items():
            mean = t_interval(scores)
            found[name] = {"value": mean.mean, "low": mean.low, "high": mean.high}
        return found

    everything = [*rows, *([faulty] if faulty else [])]
    measured = {row.system: said(row) for row in everything}
    gaps: dict[str, Any] = {}
    for name in names:
        gaps[name] = {metric: gap_of(measured, metric, name, levels) for metric in [*sets, *rows[0].scores]}
        for metric in rows[0].scores:
            test = {"codec": (by_name[REAL], by_name[ROUND_TRIP]), "generator": (by_name[ROUND_TRIP], by_name[name]),
                    "heard": (by_name[ROUND_TRIP], by_name[noise_name(max(levels))])}  # fmt: skip
            gaps[name][metric]["tests"] = {
                part: {key: value for key, value in asdict(paired(a.scores[metric], b.scores[metric])).items()
                       if key in ("difference", "low", "high", "p_t")}
                for part, (a, b) in test.items()
            }  # fmt: skip
            gaps[name][metric]["verdict"] = verdict(gaps[name][metric])
    order, metrics = [row.system for row in everything], [*sets, *rows[0].scores]
    return {"version": 1, "order": order, "metrics": metrics, "steps": measured, "gaps": gaps}


def gap_of(measured: Mapping[str, Any], metric: str, name: str, levels: Sequence[float]) -> dict[str, Any]:
    """A row's gap to real clips on one measure, in its parts; positive is worse.

    ``as_noise`` is the noise on the latents at which the round trip would score as the row does, by linear
    interpolation; None where the row is beyond the ladder's ends, or the ladder is not monotone.
    """
    sign = 1.0 if better(metric) == "lower" else -1.0
    value = {step: sign * said[metric]["value"] for step, said in measured.items()}
    gap, codec = value[name] - value[REAL], value[ROUND_TRIP] - value[REAL]
    ladder = np.array([value[ROUND_TRIP], *(value[noise_name(level)] for level in levels)])
    x, as_noise = np.array([0.0, *levels]), None
    if (np.diff(ladder) > 0).all() and ladder[0] <= value[name] <= ladder[-1]:
        as_noise = float(np.interp(value[name], ladder, x))
    return {"gap": gap, "codec": codec, "generator": value[name] - value[ROUND_TRIP],
            "heard": float(ladder[-1] - ladder[0]), "as_noise": as_noise, "verdict": ""}  # fmt: skip


def verdict(gap: Mapping[str, Any]) -> str:
    """What part stands between a row and real clips on a judge's score: generator, codec, judge or nothing."""
    tests = gap["tests"]
    if tests["heard"]["low"] <= 0:
        return "judge: it does not hear the strongest noise on the latents"
    generator, codec = (tests[part]["low"] > 0 for part in ("generator", "codec"))
    if not generator:
        return "codec: the row is as good as the round trip" if codec else "no gap is seen"
    share = gap["generator"] / gap["gap"] if gap["gap"] > 0 else 1.0
    # a part above the whole: the other one helps
    return f"generator ({min(max(share, 0.0), 1.0):.0%})" + (", the rest is the codec" if codec and share < 1 else "")
