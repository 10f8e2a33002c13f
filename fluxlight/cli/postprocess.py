"""``fluxlight postprocess``: a folder of clips through Demucs and the loudness rule; resumable, over processes."""

from __future__ import annotations

import argparse
import sys

from fluxlight.cli.arguments import Arguments, within
from fluxlight.clips.faults import CANCEL
from fluxlight.files import some_names
from fluxlight.postprocess.base import PostProcess
from fluxlight.postprocess.loudness import LockedLoudness, Loudness
from fluxlight.postprocess.separate import Separate


def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    p = Arguments(
        prog="fluxlight postprocess",
        description="Clean and level every audio file below IN as the published system does (FACTS section 4).",
        epilog="Example: fluxlight postprocess raw delivered --jobs 2. A second call does what is missing. "
        "Exit code 1: some files failed; they are named, and tried again by the next call.",
    )
    add = p.add_argument
    add("source", metavar="IN", help="folder of wav, flac, mp3 or ogg files")
    add("out", metavar="OUT", help="folder for the results, one wav a file, and postprocess.jsonl")
    add("--passes", type=within(0), default=3, help="passes of Demucs; 0 for none (3)")
    add("--model", default="mdx_extra", help="name of the Demucs bag (mdx_extra)")
    add("--repo", metavar="FOLDER", help="folder with <model>.yaml and its .th files (default: <model> in the weights "
        "folder); hub: the demucs package finds or fetches it")  # fmt: skip
    add("--lufs", type=within(-70, 0, float), default=-16.5, help="loudness (-16.5)")
    add("--locked", action="store_true", help="exactly --lufs, no peak rule: for comparisons (-23 is usual)")
    add("--no-loudness", action="store_true", help="leave the level as it is")
    add("--jobs", type=int, default=1, help="processes (1); each holds its own Demucs, 1.3 GB for mdx_extra")
    add("--batch", type=int, default=8, help="files a process takes at a time (8)")
    add("--separate-batch", type=within(1), default=4, help="clips of equal length that Demucs gets at once (4)")
    add("--device", default="auto", help="where Demucs runs: auto, cpu, cuda (auto)")
    return p


def main(args: list[str]) -> int:
    """Run the verb."""
    from fluxlight.postprocess.folder import process_folder

    given = parser().parse_args(args)
    steps: list[PostProcess] = []
    if given.passes:
        steps.append(Separate(given.passes, given.model, given.repo, device=given.device, batch=given.separate_batch))
    if not given.no_loudness:
        steps.append(LockedLoudness(given.lufs) if given.locked else Loudness(given.lufs))
    if not steps:
        raise ValueError("nothing to do: --passes 0 and --no-loudness leave no step")
    rows = process_folder(given.source, given.out, steps, given.jobs, given.batch)
    failed = [row for row in rows if row["error"]]
    unchanged = [row for row in rows if row["unchanged"] and not row["error"]]
    before = sum(row["done"] for row in rows)
    print(
        f"{len(rows) - len(failed)} of {len(rows)} clips in {given.out}"
        + (f", {before} of them before" if before else "")
    )
    if floats := [row["file"] for row in rows if row.get("format") == "FLOAT" and not row["error"]]:
        print(f"written as 32-bit float, 16 bits would change their level: {some_names(floats)}")
    for row in rows:
        if cancelled := [note for note in row["notes"] if note.startswith(CANCEL)]:
            print(f"look at: {row['file']}: {cancelled[0]}")
    for row in unchanged:
        print(f"unchanged: {row['file']}: {'; '.join(note for note in row['notes'] if 'unchanged' in note)}")
    for row in failed:
        print(f"failed: {row['file']}: {row['error']}", file=sys.stderr)
    return 1 if failed else 0
