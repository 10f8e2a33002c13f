"""``fluxlight evaluate``: folders of audio, or files of scores, to a table, plots and a page to listen to."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fluxlight.files import hash_of


def _named(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    p = argparse.ArgumentParser(
        prog="fluxlight evaluate",
        description="Judge folders of audio on the same prompts and say which differences are more than noise.",
        epilog="Example: fluxlight evaluate --system row0=out/row0 --system row1=out/row1 --prompts slice.json "
        "--reference reference/ --out table",
    )
    add = p.add_argument
    add("folders", nargs="*", help="folders of audio, one file <prompt id>.wav|flac|mp3 each; named by the folder")
    add("--system", type=_named, action="append", default=[], metavar="NAME=FOLDER", help="a folder with a row name")
    add("--scores", type=_named, action="append", default=[], metavar="NAME=FILE",
        help="precomputed per-clip scores, JSON id -> system -> value, instead of audio")  # fmt: skip
    add("--prompts", required=True, help="JSON list of {id, prompt}, CSV id,prompt, or a prompt store")
    add("--reference", help="folder of reference audio, or statistics saved by an earlier run (.safetensors)")
    add("--baseline", help="compare every row with this one (default: with the row before)")
    add("--optimised", action="append", default=None, metavar="NAME",
        help="a judge that was used to train or select; marked (default for audio: clap_a and reward_a)")  # fmt: skip
    add("--loudness", choices=("locked", "delivered", "both"), default="locked",
        help="locked: every clip at -23 LUFS, no limiting; delivered: as the files are")  # fmt: skip
    add("--out", required=True, help="folder for table.json, table.md, scores.json, plots/ and index.html")
    add("--resamples", type=int, default=1000, help="bootstrap resamples and permutations of FAD and KAD (1000)")
    add("--seed", type=int, default=0, help="of the resampling (0)")
    add("--seconds", type=float, default=10.0, help="expected clip length, 0 for any (10)")
    add("--leave-out-faulty", action="store_true", help="leave prompts with a faulty clip out of every row")
    add("--jobs", type=int, default=1, help="processes (1)")
    add("--no-page", action="store_true", help="write no listening page")
    return p


def _judges() -> tuple[dict[str, Any], dict[str, Any]]:
    # CLAP-B first: the judge that nothing was trained on gives FAD
    from fluxlight.encoders.clap_a import ClapA
    from fluxlight.encoders.clap_b import ClapB
    from fluxlight.rewards.embedded import RewardA, RewardB

    a, b = ClapA(), ClapB()
    return {"clap_b": b, "clap_a": a}, {"reward_a": RewardA(clap=a), "reward_b": RewardB(clap=b)}


def _from_scores(args: argparse.Namespace) -> int:
    from fluxlight.metrics.clips import read_prompts
    from fluxlight.metrics.evaluate import read_scores, summarise, write_result

    rows = read_scores(dict(args.scores), read_prompts(args.prompts))
    result = summarise(
        {"scores": (rows, None)}, None, args.optimised or [], args.baseline, args.resamples, seed=args.seed
    )
    write_result(args.out, result, rows)
    return _finish(result, args)


def _from_audio(args: argparse.Namespace, systems: dict[str, str]) -> int:
    from fluxlight.metrics.clips import audio_files, find_clips, read_prompts, rendering_of
    from fluxlight.metrics.evaluate import evaluate
    from fluxlight.metrics.measure import reference_from_files
    from fluxlight.metrics.reference import Reference

    prompts = read_prompts(args.prompts)
    for name, folder in systems.items():
        find_clips(folder, [p.id for p in prompts], name)  # before anything is loaded
    protocols = ["locked", "delivered"] if args.loudness == "both" else [args.loudness]
    claps, rewards = _judges()
    show = sys.stderr.isatty()
    references = []
    if args.reference and args.reference.endswith(".safetensors"):
        references = [Reference.load(args.reference)]
    elif args.reference:
        files, name = audio_files(args.reference), Path(args.reference).resolve().name
        for protocol in protocols:
            made = reference_from_files(files, claps["clap_b"], protocol, name, args.jobs, show)
            made.save(Path(args.out) / f"reference_{protocol}.safetensors")
            references.append(made)
    optimised = args.optimised if args.optimised is not None else ["clap_a", "reward_a"]
    result = evaluate(
        systems, prompts, references or None, claps, rewards, optimised, args.out, args.baseline, protocols,
        resamples=args.resamples, seed=args.seed, seconds=args.seconds or None, jobs=args.jobs,
        leave_out_faulty=args.leave_out_faulty, progress=show,
        info={name: rendering_of(folder) for name, folder in systems.items()},
    )  # fmt: skip
    if not args.no_page:
        from fluxlight.files import read_json
        from fluxlight.report.listening import listening_page

        page = Path(args.out) / "index.html"
        listening_page(page, prompts, systems, read_json(Path(args.out) / "scores.json"), result)
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
    """Run the verb; a bad input is one line on stderr and exit code 2."""
    chosen = parser().parse_args(args)
    systems = {Path(folder).resolve().name: folder for folder in chosen.folders}
    if len(systems) < len(chosen.folders):
        print(
            "fluxlight evaluate: two folders have the same name: name them with --system NAME=FOLDER", file=sys.stderr
        )
        return 2
    systems |= dict(chosen.system)
    if bool(systems) == bool(chosen.scores):
        print(
            "fluxlight evaluate: give folders of audio (--system NAME=FOLDER) or --scores NAME=FILE, not both",
            file=sys.stderr,
        )
        return 2
    try:
        return _from_scores(chosen) if chosen.scores else _from_audio(chosen, systems)
    except (ValueError, OSError) as error:
        print(f"fluxlight evaluate: {error}", file=sys.stderr)
        return 2
