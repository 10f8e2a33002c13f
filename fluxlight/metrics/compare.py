"""Compare: from per-clip values of several systems to rows, paired comparisons, floor, agreement. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fluxlight.metrics.arrays import Array
from fluxlight.metrics.clap_score import retrieval, shuffled_scores
from fluxlight.metrics.diversity import diversity
from fluxlight.metrics.frechet import FrechetGram, fad
from fluxlight.metrics.kad import KernelGram, kad
from fluxlight.metrics.measure import PerClip
from fluxlight.metrics.reference import Reference
from fluxlight.metrics.resampling import Gram, distance_change, jackknife
from fluxlight.metrics.statistics import holm, paired, spearman, t_interval

LOWER_IS_BETTER = frozenset({"fad", "kad"})


def check_rows(rows: Sequence[PerClip]) -> None:
    """Refuse rows that do not share prompts and metrics: a paired table needs both."""
    if not rows:
        raise ValueError("evaluate: no system was given")
    names = [row.system for row in rows]
    if len(set(names)) < len(names):
        raise ValueError(f"evaluate: a system name is given twice in {', '.join(names)}")
    first = rows[0]
    if len(first.prompts) < 2:
        raise ValueError(f"evaluate: {len(first.prompts)} prompts, an interval needs at least 2")
    for row in rows[1:]:
        if row.prompts != first.prompts:
            raise ValueError(
                f"evaluate: {row.system} and {first.system} have different prompts: rows of a table are paired"
            )
        if set(row.scores) != set(first.scores):
            odd = ", ".join(sorted(set(row.scores) ^ set(first.scores)))
            raise ValueError(f"evaluate: {row.system} and {first.system} differ in their measures: {odd}")


def pairs_of(names: Sequence[str], against: str | Mapping[str, str] | None) -> list[tuple[str, str]]:
    """Which row is compared with which: the row before (None), one baseline (a name), or a mapping."""
    if against is None:
        return list(zip(names[1:], names, strict=False))
    chosen = {name: against for name in names if name != against} if isinstance(against, str) else dict(against)
    if unknown := sorted({*chosen, *chosen.values()} - set(names)):
        raise ValueError(f"baseline: {', '.join(unknown)} is no system of this table ({', '.join(names)})")
    if isinstance(against, str) and against not in names:
        raise ValueError(f"baseline: {against} is no system of this table ({', '.join(names)})")
    return [(name, chosen[name]) for name in names if name in chosen]


def own_vs_shuffled(row: PerClip, clap: str) -> dict[str, Any]:
    """Paired test of each clip's own prompt against the mean of all the other prompts, and retrieval of the own one."""
    audio, text = row.embeddings[clap], row.text[clap]
    test = paired(row.scores[clap], shuffled_scores(audio, text)).as_dict()
    return {"clap": clap, **test, "recall_at_10": retrieval(audio, text, min(10, len(row.prompts)))}


def _distances(reference: Reference) -> dict[str, Callable[[Array], Gram]]:
    """The set distances this reference can give; KAD needs the reference's embeddings."""
    made: dict[str, Callable[[Array], Gram]] = {"fad": lambda x: FrechetGram(x, reference.mean, reference.cov)}
    if reference.embeddings is not None:
        embeddings, bandwidth = reference.embeddings, reference.bandwidth()
        made["kad"] = lambda x: KernelGram(x, embeddings, bandwidth)
    return made


def _floor(reference: Reference, n: int, repeats: int, seed: int) -> dict[str, Any]:
    if reference.embeddings is None or reference.n - n < 2:
        why = "no embeddings were kept" if reference.embeddings is None else f"{reference.n} clips cannot hold out {n}"
        return {"unavailable": why}
    bandwidth = reference.bandwidth()
    return {
        "fad": asdict(reference.floor(n, fad, repeats, seed)),
        "kad": asdict(reference.floor(n, lambda x, y: kad(x, y, bandwidth), repeats, seed)),
    }


def _agreement(rows: Sequence[PerClip], claps: Sequence[str]) -> list[dict[str, Any]]:
    """Spearman of every two CLAPs over all clips of the table, and within each system."""
    found = []
    for i, one in enumerate(claps):
        for other in claps[i + 1 :]:
            pooled = spearman(*(np.concatenate([row.scores[name] for row in rows]) for name in (one, other)))
            within = {row.system: spearman(row.scores[one], row.scores[other]) for row in rows}
            n = sum(len(row.prompts) for row in rows)
            found.append({"judges": [one, other], "spearman": pooled, "within": within, "n": n})
    return found


def compare(
    rows: Sequence[PerClip], reference: Reference | None = None, set_judge: str | None = None,
    against: str | Mapping[str, str] | None = None, resamples: int = 1000, repeats: int = 20, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """The table of one loudness protocol.

    Args:
        rows: systems in table order, on the same prompts.
        reference: for FAD and KAD; None leaves them out.
        set_judge: name of the CLAP whose embeddings FAD and KAD take; the first by default.
        against: what each row is compared with: the row before (None), one system, or system -> system.
        resamples: of the joint bootstrap and the permutation of FAD and KAD.
        repeats: of the real-vs-real floor.
        seed: of all resampling.

    Returns:
        ``systems`` name -> values; ``comparisons``, one per pair and measure with ``p`` and ``p_holm`` (one family over
        the table: paired t for scores, swap permutation for FAD and KAD); ``floor``; ``agreement`` of the CLAPs.
    """
    check_rows(rows)
    names = [row.system for row in rows]
    by_name = dict(zip(names, rows, strict=True))
    metrics = list(rows[0].scores)
    claps = [name for name in rows[0].embeddings if name in metrics]
    set_judge = set_judge or (claps[0] if claps else None)
    distances = _distances(reference) if reference is not None and set_judge else {}

    systems: dict[str, Any] = {}
    for row in rows:
        entry: dict[str, Any] = {"n": len(row.prompts), "info": row.info}
        entry["scores"] = {name: asdict(t_interval(row.scores[name])) for name in metrics}
        if set_judge:
            entry["distances"] = {
                n: asdict(jackknife(make(row.embeddings[set_judge]))) for n, make in distances.items()
            }
            entry["diversity"] = diversity(row.embeddings[set_judge])
            entry["own_vs_shuffled"] = own_vs_shuffled(row, set_judge)
        if row.loudness is not None:
            heard = row.loudness[np.isfinite(row.loudness)]
            entry["delivered_lufs"] = float(heard.mean()) if heard.size else None
        systems[row.system] = entry

    comparisons: list[dict[str, Any]] = []
    for name, other in pairs_of(names, against):
        head = {"system": name, "against": other}
        for metric in metrics:
            test = paired(by_name[name].scores[metric], by_name[other].scores[metric]).as_dict()
            comparisons.append({**head, "metric": metric, "test": "paired t", "p": test["p_t"], **test})
        for metric, make in distances.items():
            assert set_judge is not None
            pair = (by_name[name].embeddings[set_judge], by_name[other].embeddings[set_judge])
            change = asdict(distance_change(make, *pair, resamples=resamples, seed=seed))
            comparisons.append({**head, "metric": metric, "test": "swap permutation", **change})
    adjusted = holm({str(k): row["p"] for k, row in enumerate(comparisons)})
    for k, row_of_test in enumerate(comparisons):
        row_of_test["p_holm"] = adjusted[str(k)]

    table: dict[str, Any] = {"order": names, "metrics": metrics, "systems": systems, "comparisons": comparisons}
    if reference is not None and distances:
        table["reference"] = {**reference.frame(), "identity": reference.identity}
        table["floor"] = _floor(reference, len(rows[0].prompts), repeats, seed)
        table["set_judge"] = set_judge
    if len(claps) > 1:
        table["agreement"] = _agreement(rows, claps)
    return table
