"""Evaluate: systems, prompts, a reference and judges in; one believable table out (JSON, Markdown, plots)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fluxlight.evaluation.compare import Against, compare, enough
from fluxlight.evaluation.measure import PROTOCOLS, Judges, PerClip, measure_all
from fluxlight.evaluation.runs import Runs, check_runs, measure_runs
from fluxlight.files import hash_of, no_double, some_names, write_json, write_text
from fluxlight.metrics.reference import Reference
from fluxlight.metrics.resampling import DRAWS
from fluxlight.prompts import Prompt, as_prompts, take_half
from fluxlight.report.judges import card_for
from fluxlight.tables import read_values, same

VERSION = 2
"""Layout of table.json; it grows when a key changes its meaning."""


def read_scores(files: Mapping[str, str | os.PathLike[str]], prompts: Sequence[Prompt]) -> list[PerClip]:
    """Systems from precomputed per-clip scores.

    Args:
        files: metric -> file: JSON of prompt id -> system -> value, or a table id,system... (`fluxlight.tables`).
        prompts: the slice; ids that a file lacks or has beyond it are errors that list them.
    """
    ids = [same(p.id) for p in prompts]
    rows: dict[str, PerClip] = {}
    for metric, path in files.items():
        table = {same(id): values for id, values in read_values(path, f"scores {metric}", "id").items()}
        if missing := [p.id for p, i in zip(prompts, ids, strict=True) if i not in table]:
            raise ValueError(
                f"scores {metric}: {len(missing)} prompts have no row in {path} ({some_names(missing)}): score them, "
                "or take them out of the prompts"
            )
        if surplus := sorted(set(table) - set(ids)):
            raise ValueError(
                f"scores {metric}: {len(surplus)} rows of {path} belong to no prompt: {some_names(surplus)}"
            )
        for system in table[ids[0]]:
            values = np.array([table[i][system] for i in ids], dtype=np.float64)
            rows.setdefault(system, PerClip(system, list(prompts))).scores[metric] = values
    return list(rows.values())


def summarise(
    tables: Mapping[str, tuple[Sequence[PerClip], Reference | None]], judges: Judges | None = None,
    optimised: Sequence[str] | frozenset[str] = (), against: Against = None,
    resamples: int = 1000, repeats: int = 20, seed: int = 0, leave_out_faulty: bool = False,
    frame: Mapping[str, Any] | None = None, extra: Sequence[str] = (),
    windows: Mapping[str, Reference] | None = None, margins: Mapping[str, float] | None = None, draws: int = DRAWS,
) -> dict[str, Any]:  # fmt: skip
    """The result of measured systems: protocol -> (rows, reference) in, tables with their frame out.

    Args:
        tables: loudness protocol (or "scores" for precomputed ones) -> rows in table order, reference or None.
        judges: who judged.
        optimised: measures that were used to train or select, marked in the table.
        against, resamples, repeats, seed: see ``compare``.
        leave_out_faulty: leave prompts with a faulty clip in any system out of every row.
        frame: more facts for the frame (noise seed, sampling steps, post-processing ...).
        extra: more set measures: "fad_windows" (fadtk's definition), "mad", "diversity".
        windows: protocol -> reference of fadtk's windows, for "fad_windows".
        margins, draws: see ``compare``.
    """
    rows = next(iter(tables.values()))[0]
    faults = {run.system: run.faults for row in rows for runs in row.grid() for run in runs if run.faults}
    left_out = {i for found in faults.values() for i in found} if leave_out_faulty else set()
    if left_out:
        tables = {name: ([row.without(left_out) for row in rows], ref) for name, (rows, ref) in tables.items()}
        rows = next(iter(tables.values()))[0]
    prompts = rows[0].prompts
    result: dict[str, Any] = {
        "version": VERSION,
        "frame": {
            **dict(frame or {}),
            "n": len(prompts),
            "prompts": hash_of([[p.id, p.prompt] for p in prompts]),
            "judges": judges.identities() if judges else {},
            "optimised": sorted(optimised),
            "statistics_seed": seed,
            "resamples": resamples,
            "draws": draws,
            "interval": 0.95,
            "left_out": sorted(left_out),
        },
        "faults": faults,
        "report_card": card_for(judges.identities()) if judges else None,
        "tables": {},
    }
    set_judge = next(iter(judges.claps), None) if judges else None
    for protocol, (measured, reference) in tables.items():
        of_windows = (windows or {}).get(protocol)
        table = compare(
            measured, reference, set_judge, against, resamples, repeats, seed, extra, of_windows, margins, draws
        )
        result["tables"][protocol] = {
            "loudness": PROTOCOLS.get(protocol, "precomputed scores, loudness not known"),
            **table,
        }
    return _tidy(result)


def _tidy(value: Any) -> Any:
    """The same with ten significant digits: the last ones depend on the threads of the linear algebra."""
    if isinstance(value, dict):
        return {key: _tidy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tidy(item) for item in value]
    return float(f"{value:.10g}") if isinstance(value, float) else value


def per_clip_scores(rows: Sequence[PerClip]) -> dict[str, dict[str, dict[str, float]]]:
    """Prompt id -> system -> metric -> value: what the listening page and later analyses read."""
    ids = [p.id for p in rows[0].prompts]
    return {
        i: {row.system: {metric: _tidy(float(values[k])) for metric, values in row.scores.items()} for row in rows}
        for k, i in enumerate(ids)
    }


def evaluate(
    systems: Mapping[str, str | os.PathLike[str]], prompts: Sequence[Prompt | Mapping[str, Any]],
    reference: Reference | Sequence[Reference] | None, claps: Mapping[str, Any],
    rewards: Mapping[str, Any] | None = None, optimised: Sequence[str] | set[str] | frozenset[str] = (),
    out: str | os.PathLike[str] | None = None, against: Against = None,
    protocols: Sequence[str] = ("locked",), resamples: int = 1000, repeats: int = 20, plots: bool = True,
    seed: int = 0, seconds: float | None = 10.0, jobs: int = 1, leave_out_faulty: bool = False,
    info: Mapping[str, Mapping[str, Any]] | None = None, frame: Mapping[str, Any] | None = None, progress: bool = False,
    extra: Sequence[str] = (), runs: Runs | None = None, margins: Mapping[str, float] | None = None,
    half: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Judge folders of clips and compare them.

    Args:
        systems: row name -> folder with one audio file per prompt, named by its id; order is table order.
        prompts: ``{id, prompt}`` rows.
        reference: frozen reference(s), one per protocol (and one of windows for the extra "fad_windows"), embedded by
            the first of ``claps``; None leaves FAD out.
        claps: name -> CLAP; the first one, which must not be optimised on, gives FAD, KAD and own-vs-shuffled.
        rewards: name -> reward.
        optimised: names of the judges that trained or selected.
        out: folder for table.json, table.md, scores.json and plots; None writes nothing.
        against: what rows are compared with: the row before (None), one system, system -> system, or pairs.
        plots: write PNG plots too.
        protocols: loudness protocols to judge under, a table for each: "locked" (-23 LUFS), "delivered".
        resamples, repeats, seed, leave_out_faulty: see ``summarise``.
        seconds: expected clip length, None for any.
        jobs: processes for judging.
        info: per system, what the run says about it (checkpoint hash, noise seed, sampling steps ...).
        frame: facts that hold for all rows.
        progress: show bars.
        extra: more set measures, see ``summarise``.
        runs: system -> trainings x noises -> folder of the same prompts; the first of the first is the system's own.
            Intervals and tests of such a row are over prompts, noise seeds and training seeds.
        margins: measure -> largest difference that counts as none: adds tests of equivalence.
        half: judge only this half of the prompts, "choose" or "report" (`fluxlight.prompts.half_of`).

    Returns:
        The content of table.json; it holds no path and no time, so equal inputs give equal bytes.
    """
    windowed = tuple(list(claps)[:1]) if "fad_windows" in extra else ()
    judges = Judges(dict(claps), dict(rewards or {}), frozenset(optimised), windowed)
    if unknown := sorted(judges.optimised - set(judges.identities())):
        raise ValueError(f"optimised: {', '.join(unknown)} is no judge here ({', '.join(judges.identities())})")
    first = next(iter(judges.claps), None)
    if first in judges.optimised:
        raise ValueError(f"claps: {first} was optimised on and cannot judge FAD: put the evaluating CLAP first")
    whole = as_prompts(prompts)
    slice_prompts = take_half(whole, half)
    check_runs(runs or {}, systems)
    references = [reference] if isinstance(reference, Reference) else list(reference or [])
    enough(len(slice_prompts), bool(references or extra), resamples, repeats)
    for given in references:
        if first is not None:
            given.check(judges.claps[first].identity)
    no_double([f"{given.loudness} loudness, windows {given.windows}" for given in references], "reference at")
    tables: dict[str, tuple[list[PerClip], Reference | None]] = {}
    for protocol in protocols:
        chosen = next((r for r in references if r.loudness == protocol and r.windows == "clip"), None)
        if references and chosen is None:
            raise ValueError(
                f"reference: none was measured at {protocol} loudness: build one or leave the protocol out"
            )
        rows = measure_all(systems, slice_prompts, judges, protocol, seconds, jobs, info, progress, whole)
        measure_runs(rows, runs or {}, slice_prompts, judges, protocol, seconds, jobs, progress, whole)
        tables[protocol] = (rows, chosen)
    of_windows = {r.loudness: r for r in references if r.windows != "clip"}
    said = {**dict(frame or {}), **({"half": half} if half else {})}
    result = summarise(
        tables, judges, judges.optimised, against, resamples, repeats, seed, leave_out_faulty, said, extra, of_windows,
        margins,
    )  # fmt: skip
    if out is not None:
        write_result(out, result, tables[protocols[0]][0], plots)
    return result


def write_result(
    out: str | os.PathLike[str], result: Mapping[str, Any], rows: Sequence[PerClip], plots: bool = True
) -> None:
    """Write table.json, table.md, scores.json and plots/*.png into ``out``."""
    from fluxlight.report.plots import plot_result
    from fluxlight.report.table import markdown

    folder = Path(out)
    write_json(folder / "table.json", result)
    write_text(folder / "table.md", markdown(result))
    write_json(folder / "scores.json", per_clip_scores(rows))
    if plots:
        plot_result(result, folder / "plots")
