"""Post-processing of a folder: batches over processes, resumable, every file's fate in one row.

::

    <out>/<path below the input>.wav     mono, 16 bit (32-bit float where 16 would clip, with a note);
                                         a clip that passed unchanged is the very file
    <out>/postprocess.jsonl              one row a file: source, recipe, notes or error; append-only
    <out>/candidates.jsonl               where the input has one: its rows, pointing at the new files

A file is done when its last row names the same content and the same steps, and the output is there. Clips of another
input are never mixed in: a folder that holds any is refused.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluxlight.clips.faults import cancelling
from fluxlight.clips.read import read_channels
from fluxlight.clips.write import write_audio
from fluxlight.files import append_jsonl, atomic_path, claimed, hash_of, mend_jsonl, read_jsonl, sha256, write_jsonl
from fluxlight.files.orphans import end_with_parent
from fluxlight.postprocess.base import PostProcess, process_many
from fluxlight.postprocess.listing import check_out, clear, list_files, output_of
from fluxlight.progress import Bar
from fluxlight.types import Clip

ROWS = "postprocess.jsonl"
CANDIDATES = "candidates.jsonl"
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What a process needs to know: where from, where to, which steps, under which name."""

    source: Path
    out: Path
    steps: Sequence[PostProcess]
    recipe: str
    threads: int | None = None


def recipe_of(steps: Sequence[PostProcess]) -> str:
    """The name of a list of steps: a hash of their classes and settings, but for where and how fast they run."""
    idle = {"device", "batch", "folder", "optional"}
    plain = [
        {k: v for k, v in vars(step).items() if not k.startswith("_") and k not in idle} | {"step": type(step).__name__}
        for step in steps
    ]
    return hash_of(
        [{k: v if isinstance(v, str | int | float | bool) else repr(v) for k, v in p.items()} for p in plain]
    )


def process_folder(
    source: str | Path,
    out: str | Path,
    steps: Sequence[PostProcess],
    jobs: int = 1,
    batch: int = 8,
    threads: int | None = None,
) -> list[Row]:
    """Post-process every audio file below ``source`` into ``out``; a second call does what is missing or has changed.

    A result that is out of date is removed before anything is done.

    Args:
        source: folder of audio.
        out: folder of the results, outside ``source``.
        steps: in order.
        jobs: processes; each loads the steps for itself.
        batch: files a process takes at a time.
        threads: of each process; None shares this machine's among them.

    Returns:
        One row a file, in the order of their paths: ``file``, ``output``, ``source`` (its SHA-256), ``recipe``,
        ``notes``, ``format`` (soundfile's subtype, or "copy"), ``unchanged``, ``error`` ("" when all went well) and
        ``done`` (True when it was done before).
    """
    source, out = Path(source), Path(out)
    if jobs < 1 or batch < 1:
        raise ValueError(f"jobs is {jobs} and batch {batch}: give 1 or more of each")
    files = list_files(source, out)
    check_out(source, out, files, (out / ROWS).is_file())
    with claimed(out, make=True):
        return _process_files(source, out, files, steps, jobs, batch, threads)


def _process_files(
    source: Path, out: Path, files: list[str], steps: Sequence[PostProcess], jobs: int, batch: int, threads: int | None
) -> list[Row]:
    (out / ROWS).touch()
    job = Job(source, out, steps, recipe_of(steps), threads)
    rows: dict[str, Row] = {row["file"]: row for row in mend_jsonl(out / ROWS)}
    known, waiting = {}, []
    for file in files:
        row = rows.get(file)
        if row is not None and _is_done(row, job):
            known[file] = {**row, "done": True}
        else:
            waiting.append(file)
    clear(out, waiting)
    batches = [waiting[start : start + batch] for start in range(0, len(waiting), batch)]
    for new in _progress(_run(job, batches, jobs), len(files), len(known)):
        append_jsonl(out / ROWS, new)
        known |= {row["file"]: {**row, "done": False} for row in new}
    if (source / CANDIDATES).is_file():
        _carry_candidates(source, out, known)
    return [known[file] for file in files]


def _is_done(row: Row, job: Job) -> bool:
    output = job.out / row["output"]
    return (
        not row["error"]
        and "left out" not in " ".join(row["notes"])  # optional weights were absent; they may have come
        # before formats were noted, a locked clip was written in 16 bits whether it fitted or not
        and ("format" in row or not any(note.startswith("locked: ") for note in row["notes"]))
        and row["recipe"] == job.recipe
        and output.is_file()
        and output.stat().st_size == row["bytes"]
        and (job.source / row["file"]).is_file()
        and sha256(job.source / row["file"]) == row["source"]
    )


def _progress(results: Iterator[list[Row]], total: int, done: int) -> Iterator[list[Row]]:
    with Bar("post-processing", total, done, "clip") as bar:
        for rows in results:
            yield rows
            bar.update(len(rows))


def _run(job: Job, batches: list[list[str]], jobs: int) -> Iterator[list[Row]]:
    if jobs == 1 or len(batches) < 2:
        for files in batches:
            yield _treat(job, files)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    threads = job.threads or max(1, (os.cpu_count() or 1) // jobs)
    # spawned, not forked: a fork of a process that has used torch's threads can hang
    with ProcessPoolExecutor(jobs, get_context("spawn"), _start, (job, threads)) as pool:
        futures = [pool.submit(_treat_here, files) for files in batches]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise OSError(
                "a process was killed, out of memory? run again with fewer --jobs or a smaller --batch"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_here: list[Job] = []


def _start(job: Job, threads: int) -> None:
    import signal

    import torch

    # Ctrl-C ends a process without a traceback; what it had in hand is done again by the next run
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()
    torch.set_num_threads(threads)
    _here.append(job)


def _treat_here(files: list[str]) -> list[Row]:
    return _treat(_here[0], files)


def _treat(job: Job, files: list[str]) -> list[Row]:
    """Read, process and write some files; a bad one is a row with its error."""
    rows = [_row(job, file) for file in files]
    clips: dict[int, Clip] = {}
    for number, row in enumerate(rows):
        try:
            clips[number] = _read(job.source / row["file"])
            row["source"] = sha256(job.source / row["file"])
        except (OSError, RuntimeError, ValueError) as error:  # soundfile raises RuntimeError for a broken file
            row["error"] = _one_line(error)
    for number, clip in _processed(job, clips, rows):
        row, target = rows[number], job.out / rows[number]["output"]
        try:
            row["unchanged"] = bool(clip.audio.equal(clips[number].audio)) or "not finite" in " ".join(clip.notes)
            row["format"], note = _write(clip, row["unchanged"], job.source / row["file"], target)
            row["notes"], row["bytes"] = [*clip.notes, *([note] if note else [])], target.stat().st_size
        except (OSError, RuntimeError, ValueError) as error:
            row["error"] = _one_line(error)
    return rows


def _row(job: Job, file: str) -> Row:
    return {"file": file, "output": output_of(file), "source": "", "recipe": job.recipe, "notes": [], "bytes": 0,
            "format": "", "unchanged": False, "error": ""}  # fmt: skip


def _processed(job: Job, clips: dict[int, Clip], rows: list[Row]) -> Iterator[tuple[int, Clip]]:
    """Processed clips under their numbers; where the batch fails its clips are tried one by one."""
    try:
        yield from zip(clips, process_many(list(clips.values()), job.steps), strict=True)
    except FileNotFoundError:
        raise  # weights that are not there: the same for every clip
    except (RuntimeError, ValueError) as error:
        if len(clips) == 1:
            rows[next(iter(clips))]["error"] = _one_line(error)
            return
        for number, clip in clips.items():
            yield from _processed(job, {number: clip}, rows)


def _read(path: Path) -> Clip:
    import torch

    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f"the link leads nowhere ({os.readlink(path)})")
    samples, rate = read_channels(path)
    if not len(samples):
        raise ValueError("no samples")
    note = [f"{samples.shape[1]} channels averaged"] if samples.shape[1] > 1 else []
    if fault := cancelling(samples):
        note.append(fault)
    return Clip(path.stem, torch.from_numpy(samples).mean(dim=1), rate, notes=note)


def _write(clip: Clip, unchanged: bool, source: Path, target: Path) -> tuple[str, str]:
    """Write a clip; what it was written as, and a note where that is not what it usually is."""
    if not (unchanged and source.suffix.lower() == ".wav"):
        return write_audio(target, clip.audio, clip.sample_rate)
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
    return "copy", ""


def _carry_candidates(source: Path, out: Path, known: dict[str, Row]) -> None:
    """The rows of a rendered folder, with the new audio; its latents stay where they are."""
    rows = []
    for row in read_jsonl(source / CANDIDATES):
        done = known.get(row.get("audio", ""))
        if done is None or done["error"]:
            continue
        extra = row.get("extra", {})
        notes = [*extra.get("notes", []), *done["notes"]]
        rows.append({**row, "audio": done["output"], "latent": "", "extra": {**extra, "notes": notes}})
    write_jsonl(out / CANDIDATES, rows)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
