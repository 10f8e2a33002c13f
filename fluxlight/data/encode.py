"""Encoding: captioned audio -> a latent store; or prompts alone -> a slice. In one process or many.

Everything that can be known is checked before the first clip is encoded. A row that cannot be used costs no other: it
goes to ``failed.jsonl`` with its reason. The same command goes on where it was stopped, takes up rows that are new in
the table, tries again what failed, and leaves out what is gone; other settings than those a store was made with are
refused by name.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fluxlight.codec import Codec
from fluxlight.data.builder import Precision, require_space
from fluxlight.data.preparation.pack import Pieces, pack, text_of
from fluxlight.data.preparation.parts import CLIPS, TEXTS
from fluxlight.data.preparation.plan import Failure, Plan, make_plan
from fluxlight.data.preparation.work import Bench, ClipTask, TextTask, array, one_thread, work
from fluxlight.data.sources import CorpusSplit, Source
from fluxlight.data.store import LatentStore
from fluxlight.data.writer import begin
from fluxlight.device import chosen
from fluxlight.encoders import TextAudioModel, TextEncoder
from fluxlight.files import append_jsonl, claimed, write_jsonl
from fluxlight.progress import Bar
from fluxlight.prompts import count_cut, one_warning
from fluxlight.rewards import Reward

FAILED = "failed.jsonl"
UNIT = 32
"""Clips of a unit of work where none are asked for (our choice)."""
NEGATIVE = "noise, distortion, low quality, static, hum, hiss, clipping, muffled, amateur recording"
"""The published negative text of guidance (FACTS section 4)."""


def encode(
    out: str,
    codec: Codec | None,
    text: TextEncoder,
    clap: TextAudioModel,
    reward: Reward | None,
    split: str = "train",
    preset: Literal["debug", "tiny", "judges"] = "tiny",
    clips: int | None = None,
    source: Source | None = None,
    text_only: bool = False,
    prefix: str = "",
    suffix: str = "",
    negative: str = NEGATIVE,
    shard: int | str = 32,
    jobs: int = 1,
    precision: Precision | None = None,
    device: str = "cpu",
) -> int:
    """Encode a source into a latent store; a second call does what is missing, a finished store is left alone.

    Args:
        out: folder of the store.
        codec: audio -> latents; not needed with ``text_only``.
        text: texts -> tokens.
        clap: texts -> global embedding; the model that conditions, never the judge.
        reward: audio and caption -> score column; null: none.
        split: of the embedded corpus.
        preset: sizes of the embedded corpus.
        clips: number of clips in place of the preset's.
        source: another source of captioned audio, in place of split, preset and clips.
        text_only: prompts without latents, for a slice.
        prefix: put before every caption that is not empty; the reward hears the caption alone. The published prompts
            start with "high quality instrumental music, "; the embedded models have never seen these words, so here
            it is empty.
        suffix: put behind them.
        negative: text of the negative branch of guidance; the published one.
        shard: ``i/n``, for instance 0/8: only the i-th of n shares of the work, i from 0, into a folder of its own;
            ``fluxlight store join`` makes one store of all. Or a number: clips of a unit of work, what a killed run
            loses at most.
        jobs: processes; on GPUs, which they share in turn, too.
        precision: of latents and global text embeddings; null: float16, or float32 for the embedded corpus, whose
            stores have always been that.
        device: where the models run: cpu, cuda, mps, or auto for the GPU where there is one. On a CPU the clip of a
            file is the same to the bit whatever jobs, shard and its neighbours are; on a GPU to float tolerance.

    Returns:
        How many rows failed that were not to be left out.

    Raises:
        ValueError: there is nothing to encode, nothing could be, or the store was made with other settings.
    """
    source = source or CorpusSplit(split, preset, clips)
    size, share = _shard(shard)
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}: give at least 1")
    if precision is None:
        precision = "float16" if source.alone else "float32"
    identities = {"text": text.identity, "clap": clap.identity}
    if not text_only:
        if codec is None and not source.encoded:
            raise ValueError("codec is null: give one, or encode with --text_only true")
        judging = (("codec", codec), ("reward", None if source.encoded else reward))
        identities |= {name: model.identity for name, model in judging if model is not None}
    recipe = {
        **source.recipe,
        **identities,
        "text_only": text_only,
        "prefix": prefix,
        "negative": negative,
        # only where they are not what they were before there was a choice: stores from then are whole
        **({} if source.alone else {"shard": size}),
        **({"suffix": suffix} if suffix else {}),
        **({"precision": precision} if precision != "float32" else {}),
        **({"share": f"{share[0]}/{share[1]}"} if share[1] > 1 else {}),
    }
    place, folder = chosen(device), Path(out)
    heard = None if text_only else reward
    bench = Bench(folder, source, codec, text, clap, heard, (prefix, suffix), precision, size, place)
    with claimed(folder, make=True):
        begin(folder, recipe)
        old = LatentStore(folder) if (folder / "meta.json").exists() else None
        if old is not None and not source.alone:
            _clear(folder)
            print(f"nothing to do: {out} is finished", file=sys.stderr)
            return 0
        plan = make_plan(source, size, share, text_only, f"store {out}")
        facts = {"identities": identities, "text_len": text.length, "recipe": recipe}
        return _prepare(folder, plan, old, bench, facts, negative, jobs)


def _shard(given: int | str) -> tuple[int, tuple[int, int]]:
    """Clips of a unit, and which share of how many."""
    if isinstance(given, int) and given >= 1:
        return given, (0, 1)
    found = re.fullmatch(r"(\d+)/(\d+)", str(given))
    if found is None or int(found[1]) >= int(found[2]):
        raise ValueError(f"shard is {given}: give i/n with i from 0 to n - 1, for instance 0/8, or a number of clips")
    return UNIT, (int(found[1]), int(found[2]))


def _prepare(
    out: Path, plan: Plan, old: LatentStore | None, bench: Bench, facts: dict[str, Any], negative: str, jobs: int
) -> int:
    """Do what is missing of a plan and pack it; how many rows failed."""
    failures = list(plan.failures)
    _note(out, failures, anew=True)
    if not plan.lines:
        raise ValueError(f"none of {len(failures)} rows can be encoded: {failures[0]['reason']}")
    pieces = Pieces(out, old)
    if old is not None and not np.isin(old.rows.keys, plan.keys).any():
        raise ValueError(f"store {out} holds none of the rows that are asked for: choose another --out for them")
    texts, clips = _tasks(plan, pieces, bench.source.alone)
    missing = sum(len(rows) for task in clips for _, rows in task.tracks)
    if bench.codec is not None and missing:
        # the parts and the store that is made of them, latents with their deviation
        width = 2 if bench.precision == "float16" else 4
        latents = missing * bench.codec.latent_len * bench.codec.latent_dim * width
        require_space(out, 2 * latents, f"encoding {missing} clips to")
    bench.to(bench.place)
    # every text is read by the token encoder and by CLAP; whoever cuts one, it is counted once
    with one_warning(len(plan.lines), bench.text.length):
        failures += _work(bench, [*texts, *clips], jobs, missing, out)
        pieces = Pieces(out, old)
        there = pieces.has(plan.keys) if plan.clips else np.ones(len(plan.keys), bool)
        if not there.any():
            shutil.rmtree(out / TEXTS, ignore_errors=True)
            raise ValueError(f"none of {len(there)} clips could be encoded: {failures[0]['reason']}")
        if old is None or not np.array_equal(old.rows.keys, plan.keys[there]):
            special = _special(bench, old, negative)
            published = None if bench.codec is None else bench.codec.statistics
            known = None if published is None else (array(published[0]), array(published[1]))
            pack(out, plan, pieces, special, facts, bench.precision, known)
            print(f"{int(there.sum())} {'clips' if plan.clips else 'prompts'} -> {out}", file=sys.stderr)
        else:
            print(f"nothing to do: {out} is finished", file=sys.stderr)
    _clear(out)
    return _summary(failures, out)


def _clear(out: Path) -> None:
    """Remove the parts of a finished store."""
    for name in (CLIPS, TEXTS):
        shutil.rmtree(out / name, ignore_errors=True)


def _tasks(plan: Plan, pieces: Pieces, alone: bool) -> tuple[list[TextTask], list[ClipTask]]:
    """What is missing."""
    wanted = set(plan.texts[~pieces.has_text(plan.texts)].tolist())
    texts = []
    for chunk in plan.chunks:
        lacking = [(caption, row) for caption, row in chunk if plan.name(caption) in wanted]
        if lacking:
            texts.append(TextTask(lacking if alone else chunk))
    clips = []
    there = pieces.has(plan.keys)
    for unit in plan.units if plan.clips else ():
        tracks = [
            (track, [(plan.row(k), plan.key(k)) for k in range(first, last) if not there[k]])
            for track, first, last in unit.tracks
            if not there[first:last].all()
        ]
        if tracks:
            clips.append(ClipTask(tracks))
    return texts, clips


def _work(
    bench: Bench, tasks: Sequence[TextTask | ClipTask], jobs: int, clips: int, out: Path
) -> list[Failure]:
    """Do the tasks; what failed."""
    failures: list[Failure] = []
    with Bar(f"encoding {clips} clips", clips, unit="clip", show=clips > 0) as bar:
        for done in work(bench, tasks, jobs):
            count_cut(done.cut)
            _note(out, done.failures)
            failures += done.failures
            bar.update(done.clips)
    return failures


def _special(bench: Bench, old: LatentStore | None, negative: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Tokens and global embeddings of the empty and the negative text."""
    if old is not None:
        found = [text_of(old, number) for number in (0, 1)]
        return [tokens for tokens, _ in found], np.stack([vector for _, vector in found])
    import torch

    with one_thread(bench.alone), torch.no_grad():
        return bench.encode_texts(["", negative])


def _note(out: Path, failures: Sequence[Failure], anew: bool = False) -> None:
    """Write down what failed, as soon as it is known."""
    if anew:
        (out / FAILED).unlink(missing_ok=True)
        if failures:
            write_jsonl(out / FAILED, failures)
    elif failures:
        append_jsonl(out / FAILED, failures)


def _summary(failures: Sequence[Failure], out: Path) -> int:
    """Say how many rows of which kind failed; how many of them there are to mend."""
    for by_rule, said in ((True, "left out"), (False, "failed")):
        kinds = Counter(row["kind"] for row in failures if row["by_rule"] == by_rule)
        if kinds:
            counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            how = "" if by_rule else ": mend them or the table and run again for these alone"
            print(f"{kinds.total()} {said}: {counted} ({out / FAILED}){how}", file=sys.stderr)
    return sum(not row["by_rule"] for row in failures)
