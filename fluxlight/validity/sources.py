"""Sources: clean captioned clips and a reference, from the embedded corpus or from folders of audio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fluxlight.clips.candidates import ROWS, read_candidates
from fluxlight.clips.faults import faults_of
from fluxlight.clips.folders import audio_files, find_clips
from fluxlight.clips.read import read_channels
from fluxlight.evaluation.judging import Judges
from fluxlight.evaluation.measure import PerClip, reference_from_files
from fluxlight.files import some_names
from fluxlight.metrics.reference import Reference
from fluxlight.prompts import Prompt, read_prompts
from fluxlight.validity.climb import CLEAN, LadderClip, Rung, join, judge_rungs

RATE, PART = 44_100, 50  # Hz of the corpus; clips held in memory at a time


def corpus_clips(split: str, first: int, last: int, jobs: int = 1) -> list[LadderClip]:
    """Clips ``first`` to ``last`` (exclusive) of a split of the embedded corpus; what is missing is rendered."""
    from fluxlight.embedded.corpus import CorpusSpec, build

    corpus = build(CorpusSpec(sizes={split: last}), jobs=jobs)
    audio, rows = corpus.audio(split), corpus.rows(split)
    return [LadderClip(Prompt(rows[k].id, rows[k].caption), audio[k], RATE) for k in range(first, last)]


def folder_clips(folder: str, prompts: str, clips: int | None = None) -> list[LadderClip]:
    """The first ``clips`` clips of a folder ``<id>.wav|flac|mp3`` with a prompts file, None for all."""
    wanted = read_prompts(prompts)
    paths = find_clips(folder, [p.id for p in wanted])
    found = []
    for prompt, path in list(zip(wanted, paths, strict=True))[:clips]:
        channels, rate = read_channels(path)
        found.append(LadderClip(prompt, channels.mean(axis=1), rate, tuple(faults_of(channels, rate, None))))
    return found


def corpus_faulty(clips: int, jobs: int = 1) -> list[LadderClip]:
    """The first ``clips`` clips of the embedded corpus' training split with a fault; what is missing is rendered."""
    from fluxlight.embedded.corpus import CorpusSpec, build

    size = 2 * clips
    while True:
        # two of five training clips have a fault, and a larger split only adds to what is there
        corpus = build(CorpusSpec(sizes={"train": size}), jobs=jobs)
        rows = [k for k, row in enumerate(corpus.rows("train")) if row.fault][:clips]
        if len(rows) == clips:
            break
        size *= 2
    audio, known = corpus.audio("train"), corpus.rows("train")
    return [LadderClip(Prompt(known[k].id, known[k].caption), audio[k], RATE) for k in rows]


def row_clips(folder: str, prompts: Sequence[Prompt]) -> list[LadderClip]:
    """The clips of a rendered row, or of a folder ``<id>.wav|flac|mp3``, on some of its prompts."""
    if (Path(folder) / ROWS).is_file():
        ids = [row.id for row in read_candidates(folder) if not row.error]
    else:
        ids = [path.stem for path in audio_files(folder)]
    paths = dict(zip(ids, find_clips(folder, ids), strict=True))
    if missing := [p.id for p in prompts if p.id not in paths]:
        raise ValueError(f"row {folder}: {len(missing)} of {len(prompts)} prompts have no clip: {some_names(missing)}")
    found = []
    for prompt in prompts:
        channels, rate = read_channels(paths[prompt.id])
        found.append(LadderClip(prompt, channels.mean(axis=1), rate, tuple(faults_of(channels, rate, None))))
    return found


def faulty(clips: Sequence[LadderClip]) -> dict[str, list[str]]:
    """Prompt id -> what is wrong with its clip, of those with a fault."""
    return {clip.prompt.id: list(clip.faults) for clip in clips if clip.faults}


def judge_parts(
    load: Callable[[int, int], list[LadderClip]], first: int, last: int, judges: Judges, rungs: Sequence[Rung],
    protocol: str, jobs: int = 1, progress: bool = False,
) -> list[PerClip]:  # fmt: skip
    """``judge_rungs`` of clips ``first`` to ``last`` (exclusive) of any number, a few in memory at a time."""
    parts = [
        judge_rungs(load(start, min(start + PART, last)), judges, rungs, protocol, jobs, progress)
        for start in range(first, last, PART)
    ]
    return [join([part[k] for part in parts]) for k in range(len(rungs))]


def corpus_reference(
    clips: int, judges: Judges, protocol: str, first: int = 0, jobs: int = 1, progress: bool = False
) -> Reference:
    """Frozen reference of clips ``first`` to ``first + clips`` of the corpus' reference split, under the first CLAP."""
    name, clap = next(iter(judges.claps.items()))

    def load(start: int, stop: int) -> list[LadderClip]:
        return corpus_clips("reference", start, stop, jobs)

    rows = judge_parts(load, first, first + clips, Judges({name: clap}), [CLEAN], protocol, jobs, progress)
    return Reference.from_embeddings(
        rows[0].embeddings[name], clap.identity, RATE, "corpus reference", loudness=protocol
    )


def references(
    given: Sequence[str], clips: int, judges: Judges, protocols: Sequence[str], jobs: int = 1, progress: bool = False,
    first: int = 0, leave_out_faulty: bool = False,
) -> dict[str, Reference]:  # fmt: skip
    """Protocol -> reference: statistics files, a folder of audio, or with neither clips of the corpus.

    Args:
        given: statistics files (one per protocol) or one folder; empty takes the corpus.
        clips: how many clips of the corpus.
        judges: the first CLAP embeds.
        protocols: loudness protocols that are needed.
        first: first clip of the corpus' reference split that is taken.
        leave_out_faulty: leave faulty clips of a folder out.
    """
    clap = next(iter(judges.claps.values()))
    found: dict[str, Reference] = {}
    for path in given:
        if path.endswith(".safetensors"):
            loaded = Reference.load(path)
            loaded.check(clap.identity)
            if loaded.loudness in found:
                raise ValueError(f"--reference: {path} is a second one at {loaded.loudness} loudness: keep one")
            found[loaded.loudness] = loaded
        else:
            if found:
                raise ValueError(f"--reference: {path} is a second one: give one folder, or statistics files alone")
            files = audio_files(path)
            found |= {
                p: reference_from_files(files, clap, p, "reference", jobs, progress, leave_out_faulty=leave_out_faulty)
                for p in protocols
            }
    if not given:
        found = {p: corpus_reference(clips, judges, p, first, jobs, progress) for p in protocols}
    if absent := [p for p in protocols if p not in found]:
        raise ValueError(f"--reference: none is at {', '.join(absent)} loudness: give a folder, or choose --loudness")
    return found
