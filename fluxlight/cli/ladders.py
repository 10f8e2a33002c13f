"""``fluxlight ladders``: damage real audio by known steps and see what every measure says."""

from __future__ import annotations

import argparse

from fluxlight.cli.arguments import Arguments, within
from fluxlight.measures import PER_CLIP
from fluxlight.validity.damage import LADDERS


def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    p = Arguments(
        prog="fluxlight ladders",
        description="Damage clean clips by known steps and show each measure's response as a table and a plot.",
        epilog="Example: fluxlight ladders --clips 50 --jobs 2 --out ladders",
    )
    add = p.add_argument
    add("--audio", help="folder of clean clips <prompt id>.wav|flac|mp3 (default: slice of the embedded corpus)")
    add("--prompts", help="prompts of --audio: TSV, CSV, JSON or JSONL with id and prompt, a text, or a prompt store")
    add("--clips", type=int, default=50, help="clips that are damaged (50)")
    add("--reference", action="append", default=[], metavar="PATH",
        help="folder of audio or statistics file for FAD and KAD (default: reference split of the corpus)")  # fmt: skip
    add("--reference-clips", type=within(2), default=300, help="clips of the corpus' reference split (300)")
    add("--judges", default="embedded", metavar="WORLD", help="embedded, or published where their weights are")
    add("--ladders", nargs="+", choices=list(LADDERS), default=list(LADDERS), metavar="LADDER",
        help=f"which of {', '.join(LADDERS)} (all)")  # fmt: skip
    add("--steps", type=int, default=5, help="steps of each ladder, from the mildest on (5)")
    add("--loudness", choices=("locked", "delivered", "both"), default="both",
        help="what the judges hear: every clip at -23 LUFS, as damaged, or one after the other (both)")  # fmt: skip
    add("--extra", nargs="*", default=["mad", "diversity"], choices=PER_CLIP, metavar="MEASURE",
        help="further measures of all clips (mad diversity)")  # fmt: skip
    add("--resamples", type=within(2), default=199, help="bootstrap resamples of FAD, KAD, MAD and diversity (199)")
    add("--leave-out-faulty", action="store_true", help="leave faulty clips of --audio and of a reference folder out")
    add("--jobs", type=within(1), default=1, help="processes (1)")
    add("--out", required=True, help="folder for ladders.json, ladders.md and ladders_<loudness>.png")
    return p


def main(args: list[str]) -> int:
    """Run the verb: exit code 0, also when a measure does not do what it must (the table says so)."""
    given = parser().parse_args(args)
    if bool(given.audio) != bool(given.prompts):
        raise ValueError("--audio and --prompts belong together: give both, or neither for the embedded corpus")
    if given.steps < 1 or given.clips < 4:
        raise ValueError(f"--steps {given.steps} and --clips {given.clips}: at least 1 step and 4 clips are needed")
    from fluxlight.evaluation.judges import load_judges
    from fluxlight.evaluation.sets import set_measures
    from fluxlight.validity.climb import climb
    from fluxlight.validity.page import markdown, write_page
    from fluxlight.validity.response import responses, result_of
    from fluxlight.validity.sources import corpus_clips, faulty, folder_clips, references

    judges, show = load_judges(given.judges), True
    protocols = ["locked", "delivered"] if given.loudness == "both" else [given.loudness]
    if given.audio:
        clips = folder_clips(given.audio, given.prompts, given.clips)
    else:
        clips = corpus_clips("slice", 0, given.clips, given.jobs)
    faults = {"clips": faulty(clips)}
    if given.leave_out_faulty and faults["clips"]:
        clips = [clip for clip in clips if not clip.faults]
        if len(clips) < 4:
            raise ValueError(f"--leave-out-faulty: {len(clips)} clips are left, at least 4 are needed")
    found = references(
        given.reference, given.reference_clips, judges, protocols, given.jobs, show,
        leave_out_faulty=given.leave_out_faulty,
    )  # fmt: skip
    faults["the reference"] = next(iter(found.values())).faults
    tables = {}
    for protocol in protocols:
        rows = climb(clips, judges, given.ladders, protocol, given.jobs, show, slice(given.steps))
        measures = set_measures(len(clips), next(iter(judges.claps)), found[protocol], extra=given.extra)
        tables[protocol] = {
            name: responses(name, ladder, measures, protocol, given.resamples) for name, ladder in rows.items()
        }
    frame = {
        "n": len(clips), "clips": given.audio or "slice of the embedded corpus", "judges": judges.identities(),
        "optimised": sorted(judges.optimised), "reference": ", ".join(r.identity for r in found.values()),
        "resamples": given.resamples, "interval": 0.95, "faults": faults,
        "left_out": sorted(faults["clips"]) if given.leave_out_faulty else [],
    }  # fmt: skip
    result = result_of(tables, frame)
    write_page(result, given.out)
    print(markdown(result))
    return 0
