"""Embeddings of clips with known faults: computed once, kept in the cache folder, resumable part by part."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fluxlight.codec.base import Codec
from fluxlight.embedded.corpus import FAULTS, ClipRow
from fluxlight.files import atomic_path, cache_folder, hash_of
from fluxlight.progress import track
from fluxlight.rewards.descriptors import SignalDescriptors
from fluxlight.rewards.embedded import EmbeddedReward

PART = 40
"""Clips of one cache file: what an interruption can lose."""

CLEAN = -1
"""Kind of an item without a fault; the others count through ``FAULTS``."""


@dataclass
class Items:
    """M clips of known fault, and texts of the N compositions they were rendered from.

    Attributes:
        clap: CLAP audio embeddings ``(M, 128)``.
        second: descriptors before standardisation ``(M, S)``.
        clip: composition of each item ``(M,)``; items of one composition differ in their fault only.
        kind: index into ``FAULTS`` ``(M,)``, ``CLEAN`` for none.
        level: 0 (clean) to 4 (strong) ``(M,)``.
        text: CLAP text embeddings of several true captions of each composition ``(N, W, 128)``.
    """

    clap: Tensor
    second: Tensor
    clip: Tensor
    kind: Tensor
    level: Tensor
    text: Tensor

    def __len__(self) -> int:
        return len(self.clip)

    @classmethod
    def join(cls, parts: Sequence[Items]) -> Items:
        """Items of the same compositions, one set after the other."""
        first = parts[0]
        rest = {f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls) if f.name != "text"}
        return cls(**rest, text=first.text)


Block = tuple[np.ndarray, list[tuple[int, int, int]]]
"""Audio ``(k, 441000)`` and (clip, kind, level) of each row."""


def variants(rows: Sequence[ClipRow], seed: int, levels: Sequence[int]) -> list[list[tuple[str | None, int]]]:
    """Which faults each clip is rendered with: none, and every kind at two different ones of ``levels``.

    The levels are drawn from a generator of (seed, clip) alone.
    """
    plan: list[list[tuple[str | None, int]]] = []
    for row in rows:
        rng = np.random.default_rng([seed, row.index, 41])
        pairs = [(fault, int(level)) for fault in FAULTS for level in sorted(rng.permutation(levels)[:2])]
        plan.append([(None, 0), *pairs])
    return plan


def render_variants(
    rows: Sequence[ClipRow], seed: int, levels: Sequence[int], first: int, last: int
) -> Iterator[Block]:
    """Rendered variants of clips ``first`` to ``last`` (exclusive), one block per clip."""
    from fluxlight.embedded.corpus import render_variant

    for clip, plan in zip(range(first, last), variants(rows[first:last], seed, levels), strict=True):
        audio = np.stack([render_variant(rows[clip], fault, level) for fault, level in plan])
        yield audio, [(clip, CLEAN if fault is None else FAULTS.index(fault), level) for fault, level in plan]


def embed_clips(
    reward: EmbeddedReward, key: str, count: int, blocks: Callable[[int, int], Iterator[Block]], text: Tensor
) -> Items:
    """Items of ``count`` clips, in parts of ``PART`` that are read from the cache or made and kept there.

    CLAP embeddings and descriptors have caches of their own: a new CLAP leaves the descriptors valid.

    Args:
        reward: its CLAP and descriptors do the work.
        key: names the audio (corpus, split, plan); CLAP and descriptor settings are added here.
        count: clips.
        blocks: (first, last) -> blocks of audio of these clips.
        text: ``(N, W, 128)`` of all clips.
    """
    folders = {
        "clap": cache_folder() / "rewards" / hash_of([key, reward.clap.identity, PART]),
        "second": cache_folder() / "rewards" / hash_of([key, reward.descriptors.settings(), PART]),
    }
    parts = []
    for first in track(range(0, count, PART), f"{reward.name} {key}", unit="part"):
        last = min(first + PART, count)
        parts.append(embed_part(reward, folders, first, last, blocks))
    joined = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    return Items(**joined, text=text)


def embed_part(
    reward: EmbeddedReward,
    folders: dict[str, Path],
    first: int,
    last: int,
    blocks: Callable[[int, int], Iterator[Block]],
) -> dict[str, np.ndarray]:
    """Clips ``first`` to ``last`` (exclusive): the embeddings named by ``folders``, and clip, kind, level."""
    paths = {name: folder / f"{first:06d}-{last:06d}.npz" for name, folder in folders.items()}
    found = {name: part for name, path in paths.items() if (part := _read(path, name)) is not None}
    missing = [name for name in paths if name not in found]
    if missing:
        for name, part in _measure(reward, blocks(first, last), missing).items():
            with atomic_path(paths[name]) as temporary:
                np.savez(temporary, **part)
            found[name] = part
    return {key: value for part in found.values() for key, value in part.items()}


def _read(path: Path, name: str) -> dict[str, np.ndarray] | None:
    """A part of the cache, or None when it is absent or damaged (then it is made again)."""
    try:
        with np.load(path) as file:
            return {key: file[key] for key in (name, "clip", "kind", "level")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _measure(reward: EmbeddedReward, blocks: Iterator[Block], names: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    made: dict[str, list[np.ndarray]] = {name: [] for name in names}
    labels = []
    for audio, label in blocks:
        sound = torch.from_numpy(np.asarray(audio, dtype=np.float32))
        if "clap" in made:
            made["clap"].append(reward.clap.embed_audio(sound, 44_100).cpu().float().numpy())
        if "second" in made:
            made["second"].append(_raw(reward.descriptors, sound).numpy())
        labels.append(np.asarray(label, dtype=np.int64).reshape(-1, 3))
    table = np.concatenate(labels)
    known = {"clip": table[:, 0], "kind": table[:, 1], "level": table[:, 2]}
    return {name: {name: np.concatenate(rows), **known} for name, rows in made.items()}


def embed_texts(reward: EmbeddedReward, texts: Sequence[str]) -> Tensor:
    """CLAP embeddings ``(len(texts), 128)``, from the cache or kept there."""
    path = cache_folder() / "rewards" / f"text-{hash_of([reward.clap.identity, list(texts)])}.npy"
    try:
        return torch.from_numpy(np.load(path))
    except (OSError, ValueError, EOFError):
        rows = reward.embed_prompts(texts).cpu().float()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, rows.numpy())
    return rows


def _raw(descriptors: SignalDescriptors, audio: Tensor) -> Tensor:
    return torch.cat([descriptors.raw(part, 44_100) for part in audio.split(1)])


def corpus_items(
    reward: EmbeddedReward,
    split: str,
    clips: int,
    varied: int,
    templates: str,
    wordings: int = 6,
    levels: Sequence[int] = (1, 2, 3, 4),
    seed: int = 0,
    codec: Codec | None = None,
    coded: int = 0,
) -> Items:
    """Items of a corpus split: ``clips`` as the corpus holds them, and all variants of the first ``varied``.

    With a codec, the first ``coded`` clips come a second time, through it, under the same labels: what every generated
    clip sounds like is no fault.

    Args:
        split: ``judge_a``, ``judge_b`` or ``judge_val``.
        templates: caption templates, ``a``, ``b`` or ``held_out``; ``own`` takes each row's one caption.
        wordings: true captions drawn per clip, each with its own template, synonyms and dropped attributes.
        levels: what the two levels of each variant are drawn from.
        seed: of levels and wordings.
        codec, coded: see above.
    """
    from fluxlight.embedded.corpus import CorpusSpec, build, captions

    if not 0 <= varied <= clips:
        raise ValueError(f"varied is {varied}, expected 0 to clips = {clips}: variants are made of these clips")
    spec = CorpusSpec(sizes={split: clips})
    corpus = build(spec)
    rows = corpus.rows(split)
    if templates == "own":
        wordings, texts = 1, [row.caption for row in rows]
    else:
        group = {"a": captions.TEMPLATES_A, "b": captions.TEMPLATES_B, "held_out": captions.TEMPLATES_HELD_OUT}[
            templates
        ]
        texts = []
        for row in rows:
            rng = np.random.default_rng([seed, row.index, 43])
            texts += [captions.write_caption(row.tags, rng, templates=group)[0] for _ in range(wordings)]
    text = embed_texts(reward, texts).reshape(len(rows), wordings, -1)
    shards = corpus.audio(split)

    def stored(first: int, last: int) -> Iterator[Block]:
        for start in range(first, last, 8):
            some = range(start, min(start + 8, last))
            faults = [(rows[k].fault, rows[k].fault_level) for k in some]
            label = [
                (k, CLEAN if f is None else FAULTS.index(f), level) for k, (f, level) in zip(some, faults, strict=True)
            ]
            yield np.asarray(shards[some.start : some.stop]), label

    frame = f"{spec.family} {split}"
    parts = [embed_clips(reward, f"{frame} stored", clips, stored, text)]
    if codec is not None and coded:

        def round_trip(first: int, last: int) -> Iterator[Block]:
            for audio, label in stored(first, last):
                with torch.no_grad():
                    mean, _ = codec.encode(torch.from_numpy(audio))
                    yield codec.decode(mean)[:, : audio.shape[1]].cpu().numpy(), label

        parts.append(embed_clips(reward, f"{frame} through {codec.identity}", coded, round_trip, text))
    if varied:

        def made(first: int, last: int) -> Iterator[Block]:
            return render_variants(rows, seed, levels, first, last)

        parts.append(embed_clips(reward, f"{frame} variants {seed} {list(levels)}", varied, made, text))
    return Items.join(parts)
