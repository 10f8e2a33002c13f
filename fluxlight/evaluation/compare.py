"""Compare: from per-clip values of several systems to rows, paired comparisons, floor, agreement. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fluxlight.clips.faults import LENGTH_TOLERANCE
from fluxlight.evaluation.differences import comparisons, distance_of, score_of
from fluxlight.evaluation.measure import PerClip
from fluxlight.evaluation.sets import SetMeasure, set_measures
from fluxlight.metrics.clap_score import retrieval, shuffled_scores
from fluxlight.metrics.diversity import diversity, diversity_per_prompt
from fluxlight.metrics.reference import Reference
from fluxlight.metrics.resampling import DRAWS
from fluxlight.metrics.statistics import paired, spearman

HEARD_SECONDS = 10.0
"""What judges hear of a clip, its centre (FACTS section 5)."""
Against = str | Mapping[str, str] | Sequence[tuple[str, str]] | None
"""What rows are compared with: the row before (None), one row (its name), row -> row, or pairs (row, other)."""


def check_rows(rows: Sequence[PerClip]) -> None:
    """Refuse rows that do not share prompts and metrics: a paired table needs both."""
    if not rows:
        raise ValueError("evaluate: no system was given")
    names = [row.system for row in rows]
    if len(set(names)) < len(names):
        raise ValueError(f"evaluate: a system name is given twice in {', '.join(names)}")
    first = rows[0]
    enough(len(first.prompts), False)
    for row in rows[1:]:
        if row.prompts != first.prompts:
            raise ValueError(
                f"evaluate: {row.system} and {first.system} have different prompts: rows of a table are paired"
            )
        if set(row.scores) != set(first.scores):
            odd = ", ".join(sorted(set(row.scores) ^ set(first.scores)))
            raise ValueError(f"evaluate: {row.system} and {first.system} differ in their measures: {odd}")


def enough(n: int, of_sets: bool, resamples: int = 2, repeats: int = 1) -> None:
    """Refuse what no interval can be made of.

    Args:
        n: prompts; for measures of whole rows three at least, since their interval leaves one out.
        of_sets: whether there are such measures.
        resamples, repeats: see ``compare``.
    """
    least, what = (3, "FAD, KAD and the like with their interval need") if of_sets else (2, "an interval needs")
    if n < least:
        more = ", or leave the reference out" if of_sets and n == 2 else ""
        raise ValueError(f"{n} prompts, {what} at least {least}: give more{more}")
    if resamples < 2 or repeats < 1:
        raise ValueError(f"resamples is {resamples} and repeats {repeats}: give 2 and 1, or more")


def pairs_of(names: Sequence[str], against: Against) -> list[tuple[str, str]]:
    """Which row is compared with which, in table order; a pair that is named twice, or turned round, counts once."""
    if against is None:
        return list(zip(names[1:], names, strict=False))
    if isinstance(against, str):
        pairs = [(name, against) for name in names if name != against]
        named = {against}
    else:
        given = list(dict.fromkeys(against.items() if isinstance(against, Mapping) else against))
        # a comparison and its mirror image are one test
        pairs = [pair for k, pair in enumerate(given) if pair[::-1] not in given[:k]]
        named = {name for pair in pairs for name in pair}
    if unknown := sorted(named - set(names)):
        raise ValueError(f"baseline: {', '.join(unknown)} is no system of this table: name one of {', '.join(names)}")
    if same := [name for name, other in pairs if name == other]:
        raise ValueError(f"baseline: {', '.join(same)} cannot be compared with itself")
    return sorted(pairs, key=lambda pair: names.index(pair[0]))


def own_vs_shuffled(row: PerClip, clap: str) -> dict[str, Any]:
    """Paired test of each clip's own prompt against the mean of all the other prompts, and retrieval of the own one."""
    audio, text = row.embeddings[clap], row.text[clap]
    # of unit vectors: equal prompts differ by the rounding of 1, however small their cosines are
    test = paired(row.scores[clap], shuffled_scores(audio, text), scale=1.0).as_dict()
    return {"clap": clap, **test, "recall_at_10": retrieval(audio, text, min(10, len(row.prompts)))}


def _floor(measures: Mapping[str, SetMeasure], n: int, repeats: int, seed: int) -> dict[str, Any]:
    first = next(iter(measures.values())).reference
    assert first is not None
    if first.embeddings is None or first.clips - n < 2:
        why = "no embeddings were kept" if first.embeddings is None else f"{first.clips} clips cannot hold out {n}"
        return {"unavailable": why}
    return {
        name: asdict(measure.reference.floor(n, measure.floor, repeats, seed))
        for name, measure in measures.items()
        if measure.reference is not None
    }


def _means(run: PerClip) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in run.scores.items()}


def _agreement(rows: Sequence[PerClip], judges: Sequence[str]) -> list[dict[str, Any]]:
    """Spearman of every two judges of a kind over all clips of the table, and within each system."""
    found = []
    for i, one in enumerate(judges):
        for other in judges[i + 1 :]:
            pooled = spearman(*(np.concatenate([row.scores[name] for row in rows]) for name in (one, other)))
            within = {row.system: spearman(row.scores[one], row.scores[other]) for row in rows}
            n = sum(len(row.prompts) for row in rows)
            found.append({"judges": [one, other], "spearman": pooled, "within": within, "n": n})
    return found


def files_of(files: np.ndarray) -> dict[str, Any]:
    """What delivered clips ``(n, 3)`` are: clips at each sample rate in Hz and of each number of channels, seconds."""
    hz, seconds, channels = files.T
    return {
        "rates": {str(int(k)): int((hz == k).sum()) for k in np.unique(hz)},
        "channels": {str(int(k)): int((channels == k).sum()) for k in np.unique(channels)},
        "seconds": [float(seconds.min()), float(np.median(seconds)), float(seconds.max())],
    }


def hints(files: Mapping[str, Mapping[str, Any]], reference: Reference | None = None) -> list[str]:
    """What sets rows apart besides their sound: sample rate, length, channels; judges hear all of these.

    Args:
        files: row -> ``files_of`` its clips.
        reference: its sample rates are compared with the rows'.
    """
    found = []
    rates = {name: tuple(said["rates"]) for name, said in files.items()}
    if reference is not None and rates:
        rates["the reference"] = tuple(reference.rates) or (str(reference.sample_rate),)
    if len({rate for known in rates.values() for rate in known}) > 1:
        said = "; ".join(f"{name} {' and '.join(known)} Hz" for name, known in rates.items())
        found.append(f"Sample rates differ ({said}): what a lower rate lacks of the highs moves every judge.")
    lengths = {name: said["seconds"] for name, said in files.items()}
    ends = [end for low, _, high in lengths.values() for end in (low, high)]
    if ends and max(ends) - min(ends) > LENGTH_TOLERANCE:
        parts = [f"{name} {low:.2f}" + (f" to {high:.2f}" if high - low > LENGTH_TOLERANCE else "") + " s"
                 for name, (low, _, high) in lengths.items()]  # fmt: skip
        found.append(f"Lengths differ ({'; '.join(parts)}): compare clips of one length.")
    if ends and max(ends) > HEARD_SECONDS + LENGTH_TOLERANCE:
        found.append(
            f"Judges hear the centre {HEARD_SECONDS:g} s: the rest of clips of {max(ends):.1f} s was not judged."
        )
    if any(set(said["channels"]) != {"1"} for said in files.values()):
        said = "; ".join(f"{name} {' and '.join(known['channels'])}" for name, known in files.items())
        found.append(f"Channels of the files: {said}. Judges hear their mean; LUFS of the files are of all channels.")
    return found


def compare(
    rows: Sequence[PerClip], reference: Reference | None = None, set_judge: str | None = None,
    against: Against = None, resamples: int = 1000, repeats: int = 20, seed: int = 0, extra: Sequence[str] = (),
    windows: Reference | None = None, margins: Mapping[str, float] | None = None, draws: int = DRAWS,
) -> dict[str, Any]:  # fmt: skip
    """The table of one loudness protocol.

    Args:
        rows: systems in table order, on the same prompts.
        reference: for FAD and KAD; None leaves them out.
        set_judge: name of the CLAP whose embeddings FAD and KAD take; the first by default.
        against: what each row is compared with (``Against``).
        resamples: permutations of FAD and KAD; the draws of their intervals are the same in every table.
        repeats: of the real-vs-real floor.
        seed: of all resampling.
        extra: more set measures, of ``fluxlight.measures.EXTRAS``.
        windows: reference of fadtk's windows, for the extra ``fad_windows``.
        margins: measure -> largest difference that counts as none: adds tests of equivalence.
        draws: of an interval; fewer than the default make a table whose intervals are not those of others.

    Returns:
        ``systems`` name -> values; ``comparisons``, one per pair and measure with ``p`` and ``p_holm`` (one family over
        the table: paired t for scores, swap permutation for FAD and KAD, crossed t for rows of several runs);
        ``floor``; ``agreement`` of the judges.
    """
    check_rows(rows)
    names = [row.system for row in rows]
    metrics = list(rows[0].scores)
    claps = [name for name in rows[0].embeddings if name in metrics]
    set_judge = set_judge or (claps[0] if claps else None)
    n = len(rows[0].prompts)
    measures = set_measures(n, set_judge, reference, windows, extra) if set_judge else {}
    enough(n, bool(measures), resamples, repeats)
    if unknown := sorted(set(margins or ()) - {*metrics, *measures}):
        raise ValueError(f"margin: {', '.join(unknown)} is no measure here ({', '.join([*metrics, *measures])})")

    systems: dict[str, Any] = {}
    for row in rows:
        grid = row.grid()
        info = {key: value for key, value in row.info.items() if key != "spread"}
        entry: dict[str, Any] = {"n": n, "noise_seeds": len(grid[0]), "training_seeds": len(grid), "info": info}
        if "spread" in row.info:
            entry["spread"] = row.info["spread"]
        if row.runs:
            entry["runs"] = [{"training": k + 1, "noise": j + 1, "info": run.info, "scores": _means(run)}
                             for k, runs in enumerate(grid) for j, run in enumerate(runs)]  # fmt: skip
        entry["scores"] = {name: score_of(row, name) for name in metrics}
        if set_judge:
            entry["distances"] = {name: distance_of(row, measure) for name, measure in measures.items()}
            entry["diversity"] = diversity(row.embeddings[set_judge])
            entry["own_vs_shuffled"] = own_vs_shuffled(row, set_judge)
            if (seeds := len(grid[0])) > 1:
                entry["seeds"] = seeds
                clips = np.concatenate([run.embeddings[set_judge] for run in grid[0]])
                entry["diversity_per_prompt"] = diversity_per_prompt(clips, [p.id for p in row.prompts] * seeds)
        if row.loudness is not None:
            heard = row.loudness[np.isfinite(row.loudness)]
            entry["delivered_lufs"] = float(heard.mean()) if heard.size else None
        if row.files is not None:
            entry["files"] = files_of(row.files)
        systems[row.system] = entry

    table: dict[str, Any] = {"order": names, "metrics": metrics, "systems": systems}
    table["comparisons"] = comparisons(rows, pairs_of(names, against), measures, resamples, seed, margins, draws)
    table["hints"] = hints({name: entry["files"] for name, entry in systems.items() if "files" in entry}, reference)
    if reference is not None and measures:
        table["reference"] = {**reference.frame(), "identity": reference.identity, "faults": reference.faults}
        if "fad_windows" in measures and windows is not None:
            table["reference_windows"] = {**windows.frame(), "identity": windows.identity, "clips": windows.clips}
        table["floor"] = _floor(measures, n, repeats, seed)
        table["set_judge"] = set_judge
    others = [name for name in metrics if name not in claps] if claps else []
    if agreement := [*_agreement(rows, claps), *_agreement(rows, others)]:
        table["agreement"] = agreement
    return table
