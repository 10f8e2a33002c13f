"""Many trials in processes, kept one by one, so that a run that was stopped goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fluxlight.evaluation.judging import Judges, each
from fluxlight.evaluation.measure import PerClip
from fluxlight.evaluation.sets import set_measures
from fluxlight.files import append_jsonl, mend_jsonl
from fluxlight.metrics.reference import Reference
from fluxlight.validity.alarms import halves_pair, noise_pair, trial


@dataclass(frozen=True)
class Bench:
    """What trials are drawn from, without what they do not need, so that it travels to other processes.

    Attributes:
        rows: kind of material -> rows: "noise" (a model under several noise seeds), "halves" (one row of real clips),
            and the same damaged under names of their own.
        judge: CLAP of the set measures.
        reference: for FAD and KAD; None tests scores (and diversity) only.
        extra: further set measures.
        n: clips of a row.
        resamples: of the permutation of set measures.
    """

    rows: dict[str, list[PerClip]]
    judge: str
    reference: Reference | None
    extra: tuple[str, ...]
    n: int
    resamples: int


@dataclass(frozen=True)
class _Task:
    bench: Bench
    kind: str
    damage: str
    number: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.kind, self.damage, self.number


def _one(task: _Task, judges: Judges) -> list[dict[str, Any]]:
    bench = task.bench
    # the material is in the key of the draw, its number is not enough: equal numbers would draw equal prompts
    rng = np.random.default_rng([task.number, *hashlib.sha256(f"{task.kind} {task.damage}".encode()).digest()[:8]])
    if task.kind == "noise":
        pair = noise_pair(bench.rows["noise"], bench.n, rng, bench.rows.get(task.damage, ()))
    else:
        other = bench.rows[task.damage][0] if task.damage else None
        pair = halves_pair(bench.rows["halves"][0], bench.n, rng, other)
    measures = set_measures(bench.n, bench.judge, bench.reference, extra=bench.extra)
    return trial(pair, measures, bench.resamples, task.number)


def run_trials(
    bench: Bench, wanted: Sequence[tuple[str, str, int]], path: Path, jobs: int = 1, progress: bool = False
) -> dict[tuple[str, str], list[list[dict[str, Any]]]]:
    """Trials of several sorts; finished ones are read from ``path`` (JSON lines) and not made again.

    Args:
        bench: the material.
        wanted: (kind, damage, how many): kind "noise" or "halves"; damage a name in ``bench.rows``, "" for A/A.
        path: where trials are kept; it belongs to this material, so its name carries its ``fingerprint``.
        jobs: processes.
        progress: show a bar.

    Returns:
        (kind, damage) -> trials in the order of their numbers.
    """
    known = {(row["kind"], row["damage"], row["number"]): row["rows"] for row in mend_jsonl(path)}
    tasks = [_Task(bench, kind, damage, k) for kind, damage, count in wanted for k in range(count)]
    missing = [task for task in tasks if task.key not in known]
    for task, rows in zip(missing, each(_one, missing, Judges(), jobs, "trials", progress), strict=True):
        append_jsonl(path, [{"kind": task.kind, "damage": task.damage, "number": task.number, "rows": rows}])
        known[task.key] = rows
    return {(kind, damage): [known[kind, damage, k] for k in range(count)] for kind, damage, count in wanted}


def slim(row: PerClip, judge: str) -> PerClip:
    """A row with the embeddings of one judge only."""
    return PerClip(row.system, row.prompts, row.scores, {judge: row.embeddings[judge]}, {judge: row.text[judge]})


def fingerprint(bench: Bench) -> str:
    """Twelve digits of a hash over everything a trial depends on."""
    digest = hashlib.sha256(repr((bench.judge, bench.extra, bench.n, bench.resamples)).encode())
    for name, rows in sorted(bench.rows.items()):
        for row in rows:
            digest.update(name.encode())
            for values in (*row.scores.values(), *row.embeddings.values()):
                digest.update(np.ascontiguousarray(np.round(values, 6)).tobytes())
    digest.update(bench.reference.identity.encode() if bench.reference else b"")
    return digest.hexdigest()[:12]
