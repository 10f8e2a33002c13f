"""Climb: every clip on every step of every ladder, judged, as rows that compare like systems."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fluxlight.evaluation.judging import Judges, each, embed_texts, judge_audio
from fluxlight.evaluation.measure import PerClip
from fluxlight.metrics.clap_score import clap_scores
from fluxlight.prompts import Prompt
from fluxlight.validity.damage import LADDERS, Audio, damaged, wrong_caption


@dataclass(frozen=True)
class LadderClip:
    """A clip to be damaged: its prompt, its mono samples ``(N,)``, and what is wrong with it before any damage."""

    prompt: Prompt
    audio: Audio
    sample_rate: int
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rung:
    """A step of a ladder; ``step`` None is the clean clip."""

    ladder: str
    step: float | None

    @property
    def name(self) -> str:
        """Row name, for instance ``white_noise 20``."""
        return "clean" if self.step is None else f"{self.ladder} {self.step:g}"


CLEAN = Rung("", None)


@dataclass(frozen=True)
class _Task:
    """A clip with all the rungs it is judged on, and the prompt it carries on each."""

    clip: LadderClip
    rungs: tuple[Rung, ...]
    prompts: tuple[str, ...]
    protocol: str
    seed: int


def _judge(task: _Task, judges: Judges) -> list[dict[tuple[str, str], np.ndarray]]:
    said = []
    for rung, prompt in zip(task.rungs, task.prompts, strict=True):
        clip = task.clip
        # one NaN would spread over the whole damaged clip; what is not finite is silent, as in a table
        audio = clip.audio if np.isfinite(clip.audio).all() else np.nan_to_num(clip.audio, posinf=0, neginf=0)
        if rung.step is not None:
            audio = damaged(rung.ladder, rung.step, audio, clip.sample_rate, task.seed)
        # the cache knows samples, not how they came about
        digest = hashlib.sha256(np.ascontiguousarray(audio, np.float32).tobytes() + str(clip.sample_rate).encode())
        said.append(judge_audio(digest.hexdigest(), audio, clip.sample_rate, prompt, task.protocol, judges))
    return said


def climb(
    clips: Sequence[LadderClip], judges: Judges, ladders: Sequence[str] = tuple(LADDERS), protocol: str = "locked",
    jobs: int = 1, progress: bool = False, steps: slice = slice(None),
) -> dict[str, list[PerClip]]:  # fmt: skip
    """Judge clips on all steps of ladders.

    Args:
        clips: clean clips with their prompts.
        judges: who judges.
        ladders: names of ``LADDERS``.
        protocol: loudness under which the judges hear, "locked" or "delivered".
        jobs: processes.
        progress: show a bar. What was judged before is cached, so an interrupted run goes on.
        steps: which steps of each ladder.

    Returns:
        ladder -> rows, the first of which is the clean one, then one per step from mild to strong.
    """
    if unknown := sorted(set(ladders) - set(LADDERS)):
        raise ValueError(f"ladders: {', '.join(unknown)} is unknown: choose among {', '.join(LADDERS)}")
    rungs = [CLEAN, *(Rung(name, step) for name in ladders for step in LADDERS[name].steps[steps])]
    rows = judge_rungs(clips, judges, rungs, protocol, jobs, progress)
    return {
        name: [rows[0], *(row for rung, row in zip(rungs, rows, strict=True) if rung.ladder == name)]
        for name in ladders
    }


def judge_rungs(
    clips: Sequence[LadderClip], judges: Judges, rungs: Sequence[Rung], protocol: str = "locked", jobs: int = 1,
    progress: bool = False,
) -> list[PerClip]:  # fmt: skip
    """Judge clips on some rungs; a row for each rung."""
    n = len(clips)
    texts = [clip.prompt.prompt for clip in clips]
    owners = [
        wrong_caption(rung.step, n) if rung.step is not None and LADDERS[rung.ladder].apply is None else list(range(n))
        for rung in rungs
    ]
    text = {name: embed_texts(texts, clap) for name, clap in judges.claps.items()}
    tasks = [
        _Task(clip, tuple(rungs), tuple(texts[owner[k]] for owner in owners), protocol, k)
        for k, clip in enumerate(clips)
    ]
    what = f"{n} clips on {len(rungs)} steps, {protocol}"
    said = list(each(_judge, tasks, judges, jobs, what, progress))
    return [
        _row(rung, clips, [one[k] for one in said], owner, text, judges)
        for k, (rung, owner) in enumerate(zip(rungs, owners, strict=True))
    ]


def _row(
    rung: Rung, clips: Sequence[LadderClip], said: Sequence[dict[tuple[str, str], np.ndarray]], owner: list[int],
    text: dict[str, Any], judges: Judges,
) -> PerClip:  # fmt: skip
    embeddings = {name: np.stack([one["claps", name] for one in said]).astype(np.float64) for name in judges.claps}
    carried = {name: text[name][owner] for name in judges.claps}
    scores = {name: clap_scores(embeddings[name], carried[name]) for name in judges.claps}
    scores |= {name: np.array([float(one["rewards", name]) for one in said]) for name in judges.rewards}
    return PerClip(rung.name, [clip.prompt for clip in clips], scores, embeddings, carried)


def join(rows: Sequence[PerClip]) -> PerClip:
    """Rows of different clips as one row."""
    first = rows[0]
    return PerClip(
        first.system,
        [prompt for row in rows for prompt in row.prompts],
        {name: np.concatenate([row.scores[name] for row in rows]) for name in first.scores},
        {name: np.concatenate([row.embeddings[name] for row in rows]) for name in first.embeddings},
        {name: np.concatenate([row.text[name] for row in rows]) for name in first.text},
    )
