"""``fluxlight error-rates``: how often a table raises a false alarm, and how often it sees a known small damage."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fluxlight.cli.arguments import Arguments, within
from fluxlight.files import no_double
from fluxlight.measures import PER_CLIP
from fluxlight.validity.damage import LADDERS

AUDIBLE = [name for name, ladder in LADDERS.items() if ladder.apply is not None]



def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    p = Arguments(
        prog="fluxlight error-rates",
        description="A/A trials (same model, other noise; same data, other halves) and trials with a known damage.",
        epilog="Example: fluxlight error-rates --model runs/a/slice runs/b/slice --prompts runs/slice --out rates",
    )
    add = p.add_argument
    add("--model", nargs="+", default=[], metavar="FOLDER",
        help="clips of one model under 2 or more noise seeds, the same prompts in each folder")  # fmt: skip
    add("--prompts", help="prompts of --model: TSV, CSV, JSON or JSONL with id and prompt, a text, or a prompt store")
    add("--data", help="folder of real clips for other halves (default: reference split of the embedded corpus)")
    add("--data-prompts", help="prompts of --data")
    add("--clips", type=within(2), default=200, help="clips of the corpus for the halves (200)")
    add("--reference", action="append", default=[], metavar="PATH",
        help="folder of audio or statistics file for FAD and KAD (default: the next clips of the corpus)")  # fmt: skip
    add("--reference-clips", type=within(2), default=300, help="clips of the corpus' reference split (300)")
    add("--judges", default="embedded", metavar="WORLD", help="embedded, or published where their weights are")
    add("--loudness", choices=("locked", "delivered"), default="locked", help="what the judges hear (locked)")
    add("--n", type=within(3), default=100, help="clips in a row (100)")
    add("--trials", type=within(1), default=200, help="A/A trials of each kind (200)")
    add("--power-trials", type=within(0), default=50, help="trials with each damage, 0 for none (50)")
    add("--damage", nargs="+", choices=AUDIBLE, default=["white_noise", "clipping", "low_pass"], metavar="LADDER",
        help=f"which of {', '.join(AUDIBLE)} (white_noise clipping low_pass)")  # fmt: skip
    add("--steps", type=within(1), default=3, help="steps of each damage, from the mildest on (3)")
    add("--extra", nargs="*", default=[], choices=PER_CLIP, metavar="MEASURE", help="mad, diversity")
    add("--resamples", type=within(2), default=199, help="permutations of FAD, KAD, MAD and diversity (199)")
    add("--leave-out-faulty", action="store_true",
        help="leave out prompts with a faulty clip under any noise seed, and faulty real clips")  # fmt: skip
    add("--jobs", type=within(1), default=1, help="processes (1)")
    add("--out", required=True, help="folder for error_rates.json, .md, plots and the finished trials")
    return p


def main(args: list[str]) -> int:
    """Run the verb; a run that was stopped goes on from its finished trials."""
    given = parser().parse_args(args)
    for one, other in (("model", "prompts"), ("data", "data_prompts")):
        if bool(getattr(given, one)) != bool(getattr(given, other)):
            raise ValueError(f"--{one} and --{other.replace('_', '-')} belong together: give both or neither")
    if len(given.model) == 1:
        raise ValueError("--model: one folder is one noise seed, at least 2 are needed")
    no_double([str(Path(folder).resolve()) for folder in given.model], "--model: folder")
    from fluxlight.validity.alarms_run import fingerprint, run_trials

    bench, frame = material(given)
    damages = [name for name in bench.rows if name not in ("noise", "halves")]
    kinds = [kind for kind in ("noise", "halves") if kind in bench.rows]
    strong = kinds[0]  # damage is tested on the model's clips where there are any
    wanted = [(kind, "", given.trials) for kind in kinds]
    wanted += [(strong, damage, given.power_trials) for damage in damages]
    path = Path(given.out) / f"trials-{fingerprint(bench)}.jsonl"
    result = summary(run_trials(bench, wanted, path, given.jobs, True), frame)
    from fluxlight.validity.alarms_page import markdown, write_page

    write_page(result, given.out)
    print(markdown(result))
    return 0


def material(given: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The judged clips that trials are drawn from, and the frame of the result."""
    from fluxlight.evaluation.judges import load_judges
    from fluxlight.validity.alarms_run import Bench, slim
    from fluxlight.validity.climb import CLEAN, LadderClip, Rung
    from fluxlight.validity.sources import corpus_clips, faulty, folder_clips, judge_parts, references

    judges, show = load_judges(given.judges), True
    judge = next(iter(judges.claps))
    damaged = [Rung(name, step) for name in given.damage for step in LADDERS[name].steps[: given.steps]]
    damaged = damaged if given.power_trials else []

    def judged(clips: Sequence[LadderClip] | None, rungs: list[Rung], count: int) -> list[Any]:
        def load(start: int, stop: int) -> list[LadderClip]:
            if clips is None:
                return corpus_clips("reference", start, stop, given.jobs)
            return list(clips[start:stop])

        rows = judge_parts(load, 0, count, judges, rungs, given.loudness, given.jobs, show)
        return [slim(row, judge) for row in rows]

    rows: dict[str, list[Any]] = {}
    seeds = [folder_clips(folder, given.prompts) for folder in given.model]
    data = folder_clips(given.data, given.data_prompts) if given.data else None
    faults = {str(folder): faulty(clips) for folder, clips in zip(given.model, seeds, strict=True)}
    of_data = faulty(data or [])
    left_out: set[str] = set()
    if given.leave_out_faulty:
        of_model = {id for found in faults.values() for id in found}
        seeds = [[clip for clip in clips if clip.prompt.id not in of_model] for clips in seeds]
        data = [clip for clip in data if not clip.faults] if data else None
        left_out = of_model | set(of_data)
        if data == []:
            raise ValueError(f"--leave-out-faulty: every clip of {given.data} is faulty")
    by_seed = [judged(clips, [CLEAN, *damaged], len(clips)) for clips in seeds]
    if by_seed:
        rows["noise"] = [found[0] for found in by_seed]
    pool = judged(data, [CLEAN, *([] if by_seed else damaged)], len(data) if data else given.clips)
    rows["halves"] = [pool[0]]
    for k, rung in enumerate(damaged, 1):
        rows[rung.name] = [found[k] for found in by_seed] or [pool[k]]
    first = 0 if given.data else given.clips  # the reference must not hold the clips that are tested
    found = references(
        given.reference, given.reference_clips, judges, [given.loudness], given.jobs, show, first,
        given.leave_out_faulty,
    )[given.loudness]  # fmt: skip
    bench = Bench(rows, judge, found, tuple(given.extra), given.n, given.resamples)
    material = f"{len(pool[0].prompts)} real clips" + (f", a model under {len(seeds)} noise seeds" if seeds else "")
    faults |= {"real clips": of_data, "the reference": found.faults}
    return bench, {
        "faults": faults, "left_out": sorted(left_out),
        "n": given.n, "loudness": given.loudness, "material": material, "reference": found.identity,
        "judges": judges.identities(), "optimised": sorted(judges.optimised), "resamples": given.resamples,
    }  # fmt: skip


def summary(trials: dict[tuple[str, str], Any], frame: dict[str, Any]) -> dict[str, Any]:
    """Rates of all trials as plain values."""
    from fluxlight.validity.alarms import false_alarms, power

    result: dict[str, Any] = {"version": 1, "frame": frame, "false_alarms": {}, "power": {}}
    for (kind, damage), found in trials.items():
        if not damage:
            result["false_alarms"][kind] = {name: asdict(rate) for name, rate in false_alarms(found).items()}
        elif found:
            ladder, _, step = damage.partition(" ")
            rates = {name: asdict(rate) for name, rate in power(found).items()}
            result["power"].setdefault(kind, {}).setdefault(ladder, {})[step] = rates
    return result
