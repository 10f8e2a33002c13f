"""``fluxlight evaluate``: folders of audio, or files of scores, to a table, plots and a page to listen to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fluxlight.cli.arguments import Arguments, named, within
from fluxlight.evaluation.compare import enough, pairs_of
from fluxlight.files import claimed, hash_of, no_double
from fluxlight.measures import EXTRAS

PAIR = named("NAME=VALUE")
HALVES = ("choose", "report")


class _Run(argparse.Action):
    """Keeps --seed-of and --seeds in the order in which they were given: a noise seed belongs to a training."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        given = [*getattr(namespace, "runs", ()), (self.dest, *values)]
        namespace.runs = given


def _runs(args: argparse.Namespace, systems: dict[str, str]) -> dict[str, list[list[str]]]:
    """Row -> trainings x noises -> folder."""
    found: dict[str, list[list[str]]] = {}
    for kind, name, folder in getattr(args, "runs", ()):
        trainings = found.setdefault(name, [[systems.get(name, "")]])
        if kind == "seed_of":
            trainings.append([folder])
        else:
            trainings[-1].append(folder)
    return found


def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    p = Arguments(
        prog="fluxlight evaluate",
        description="Judge folders of audio on the same prompts and say which differences are more than noise.",
        epilog="Example: fluxlight evaluate --system row0=out/row0 --system row1=out/row1 --prompts slice.json "
        "--reference reference/ --out table",
    )
    add = p.add_argument
    add("folders", nargs="*", help="folders of audio, one file <prompt id>.wav|flac|mp3 each; named by the folder")
    add("--system", type=PAIR, action="append", default=[], metavar="NAME=FOLDER", help="a folder with a row name")
    add("--seed-of", type=PAIR, action=_Run, default=[], metavar="ROW=FOLDER",
        help="the clips of another training of a row (other training seed, same noise); its intervals then hold "
        "training seeds too")  # fmt: skip
    add("--seeds", type=PAIR, action=_Run, default=[], metavar="ROW=FOLDER",
        help="the clips of a row under another noise seed, of the training named last (--system or --seed-of); "
        "also for its diversity within a prompt")  # fmt: skip
    add("--scores", type=PAIR, action="append", default=[], metavar="NAME=FILE",
        help="per-clip scores in place of audio: JSON id -> system -> value, or a table id,system...")  # fmt: skip
    add("--prompts", required=True, help="TSV, CSV, JSON or JSONL with id and prompt, a text, or a prompt store")
    add("--reference", action="append", default=[], metavar="PATH",
        help="folder of reference audio, or statistics saved by an earlier run (.safetensors; give one for each "
        "loudness and window rule)")  # fmt: skip
    add("--baseline", help="compare every row with this one (default: with the row before)")
    add("--against", type=PAIR, action="append", default=[], metavar="ROW=OTHER", help="compare these two rows too")
    add("--judges", default="embedded", metavar="WORLD",
        help="embedded: CLAP-A, CLAP-B, reward A, reward B; published: LAION-CLAP and TuneJury")  # fmt: skip
    add("--extra", nargs="+", default=[], choices=EXTRAS, metavar="MEASURE",
        help="more measures of a whole row: fad_windows (fadtk: 10 s windows, 1 s hop), mad, diversity")  # fmt: skip
    add("--optimised", action="append", default=None, metavar="NAME",
        help="a judge that was used to train or select; marked (default, embedded: clap_a, reward_a)")  # fmt: skip
    add("--loudness", choices=("locked", "delivered", "both"), default="locked",
        help="locked: every clip at -23 LUFS, no limiting; delivered: as the files are")  # fmt: skip
    add("--out", required=True, help="folder for table.json, table.md, scores.json, plots/ and index.html")
    add("--margin", type=named("MEASURE=VALUE", kind=within(0, kind=float)), action="append", default=[],
        metavar="MEASURE=VALUE", help="a difference of this measure that counts as none (fad=0.02): adds two one-sided "
        "tests that it is no larger")  # fmt: skip
    add("--half", choices=HALVES, help="judge one half of the prompts, by the hash of their ids: choose a setting on "
        "one, report on the other")  # fmt: skip
    add("--resamples", type=within(2), default=1000, help="permutations of FAD and KAD (1000); intervals always "
        "stand on 2000 draws")  # fmt: skip
    add("--seed", type=within(0), default=0, help="of the resampling (0)")
    add("--seconds", type=within(0, kind=float), default=10.0, help="expected clip length, 0 for any (10)")
    add("--leave-out-faulty", action="store_true", help="leave prompts with a faulty clip out of every row, "
        "and faulty clips out of a reference folder")  # fmt: skip
    add("--jobs", type=within(1), default=1, help="processes (1)")
    add("--no-page", action="store_true", help="write no listening page")
    add("--listen", type=PAIR, action="append", default=[], metavar="NAME=FOLDER",
        help="more clips for the page alone, not judged, of some prompts at least")  # fmt: skip
    return p


def _pairs(args: argparse.Namespace, names: Sequence[str]) -> list[tuple[str, str]]:
    return pairs_of(names, [*pairs_of(names, args.baseline), *args.against])


def _from_scores(args: argparse.Namespace) -> int:
    from fluxlight.evaluation.evaluate import read_scores, summarise, write_result
    from fluxlight.prompts import half_of, read_prompts

    rows = read_scores(dict(args.scores), read_prompts(args.prompts))
    rows = [row.take([k for k, p in enumerate(row.prompts) if args.half in (None, half_of(p.id))]) for row in rows]
    pairs = _pairs(args, [row.system for row in rows])
    result = summarise({"scores": (rows, None)}, None, args.optimised or [], pairs, args.resamples, seed=args.seed,
                       frame={"half": args.half} if args.half else None, margins=dict(args.margin))
    write_result(args.out, result, rows)
    return _finish(result, args)


def _references(args: argparse.Namespace, protocols: Sequence[str], clap: Any, show: bool) -> list[Any]:
    """Saved statistics as they are; of a folder what the table needs, kept in the output folder for the next time."""
    from fluxlight.clips.folders import audio_files
    from fluxlight.evaluation.measure import reference_from_files
    from fluxlight.metrics.reference import Reference

    found = []
    if len(folders := [given for given in args.reference if not given.endswith(".safetensors")]) > 1:
        raise ValueError(f"--reference: {', '.join(folders)} are {len(folders)} folders: give one that holds all")
    for given in args.reference:
        if given.endswith(".safetensors"):
            found.append(Reference.load(given))
            continue
        files, name = audio_files(given), Path(given).resolve().name
        for protocol in protocols:
            for windows in (False, True) if "fad_windows" in args.extra else (False,):
                made = reference_from_files(
                    files, clap, protocol, name, args.jobs, show, windows, args.leave_out_faulty
                )
                rule = "_windows" if windows else ""
                made.save(Path(args.out) / f"reference_{protocol}{rule}.safetensors")
                found.append(made)
    return found


def _from_audio(args: argparse.Namespace, systems: dict[str, str]) -> int:
    from fluxlight.clips.folders import find_clips
    from fluxlight.evaluation.judges import load_judges
    from fluxlight.evaluation.runs import check_runs
    from fluxlight.prompts import read_prompts, take_half

    prompts = read_prompts(args.prompts)
    ids = [p.id for p in prompts]
    # before anything is loaded
    enough(len(take_half(prompts, args.half)), bool(args.reference or args.extra), args.resamples)
    runs = _runs(args, systems)
    check_runs(runs, systems)
    further = [(name, folder) for name, rows in runs.items() for row in rows for folder in row]
    for name, folder in [*systems.items(), *further]:
        find_clips(folder, ids, name)
    no_double([*(name for name, _ in args.listen), *systems], "system (--listen NAME=FOLDER)")
    pairs = _pairs(args, list(systems))
    protocols = ["locked", "delivered"] if args.loudness == "both" else [args.loudness]
    judges, show = load_judges(args.judges), True
    # the folder may be a chain's, whose other folders are written by others
    with claimed(args.out, ("", "plots"), make=True):
        return _judge(args, systems, prompts, runs, pairs, protocols, judges, show)


def _judge(
    args: argparse.Namespace, systems: dict[str, str], prompts: list[Any], runs: dict[str, Any],
    pairs: list[tuple[str, str]], protocols: list[str], judges: Any, show: bool,
) -> int:  # fmt: skip
    from fluxlight.clips.folders import rendering_of
    from fluxlight.evaluation.evaluate import evaluate
    from fluxlight.prompts import take_half

    references = _references(args, protocols, next(iter(judges.claps.values())), show)
    optimised = args.optimised if args.optimised is not None else sorted(judges.optimised)
    result = evaluate(
        systems, prompts, references or None, judges.claps, judges.rewards, optimised, args.out, pairs, protocols,
        resamples=args.resamples, seed=args.seed, seconds=args.seconds or None, jobs=args.jobs,
        leave_out_faulty=args.leave_out_faulty, progress=show, extra=args.extra, runs=runs,
        margins=dict(args.margin), half=args.half,
        info={name: rendering_of(folder) for name, folder in systems.items()},
    )  # fmt: skip
    from fluxlight.report.costs import write_costs_page

    if line := write_costs_page(args.out, systems):
        print(line)
    if not args.no_page:
        from fluxlight.files import read_json
        from fluxlight.report.listening import listening_page

        page = Path(args.out) / "index.html"
        heard, taken = dict(args.listen), take_half(prompts, args.half)
        scores = read_json(Path(args.out) / "scores.json")
        listening_page(page, taken, {**heard, **systems}, scores, result, whole=prompts, partial=heard)
    return _finish(result, args)


def _finish(result: dict[str, Any], args: argparse.Namespace) -> int:
    from fluxlight.report.table import markdown

    print(markdown(result))
    faulty = sum(len(found) for found in result["faults"].values())
    print(
        f"Table {hash_of(result)} written to {args.out}"
        + (f"; {faulty} faulty clips are listed above" if faulty else "")
    )
    return 0


def main(args: list[str]) -> int:
    """Run the verb."""
    chosen = parser().parse_args(args)
    named = [*((Path(folder).resolve().name, folder) for folder in chosen.folders), *chosen.system]
    no_double([name for name, _ in named], "system (--system NAME=FOLDER)")
    no_double([name for name, _ in chosen.scores], "measure --scores")
    if bool(named) == bool(chosen.scores):
        raise ValueError("give folders of audio (--system NAME=FOLDER) or --scores NAME=FILE, not both")
    return _from_scores(chosen) if chosen.scores else _from_audio(chosen, dict(named))
