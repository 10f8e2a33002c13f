"""The plan: which rows a store is to have, checked before the first clip is encoded, cut into units of work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fluxlight.data.rows import digest
from fluxlight.data.sources.base import LeftOut, Row, Source, Track
from fluxlight.data.store import require_ids
from fluxlight.progress import Bar

Failure = dict[str, Any]


@dataclass
class Unit:
    """Tracks that are encoded together: what a killed run loses at most.

    Attributes:
        tracks: each with the numbers of its first row and of the row behind its last.
    """

    tracks: list[tuple[Track, int, int]] = field(default_factory=list)


@dataclass
class Plan:
    """What a store is to hold.

    Attributes:
        lines: its rows in order, as JSON: half a million of them as objects would be a gigabyte.
        keys: what each row is made from ``(N,)``, sixteen bytes.
        texts: name of each row's caption ``(N,)``, sixteen bytes.
        units: of work, in order.
        chunks: captions that are encoded together, each with a row that has it.
        failures: what cannot be a row.
        clips: False for prompts alone.
    """

    lines: list[bytes]
    keys: np.ndarray
    texts: np.ndarray
    units: list[Unit]
    chunks: list[list[tuple[str, Row]]]
    failures: list[Failure]
    clips: bool

    def key(self, number: int) -> bytes:
        """What a row is made from."""
        return self.keys[number].ljust(16, b"\0")

    def name(self, caption: str) -> bytes:
        """Name of a caption, as it stands in ``texts``."""
        return digest(caption).rstrip(b"\0")

    def row(self, number: int) -> Row:
        """A row as an object."""
        return json.loads(self.lines[number])


def failure(row: Row, why: LeftOut) -> Failure:
    """What failed.jsonl says of a row."""
    named: dict[str, Any] = {key: row[key] for key in ("id", "caption", "path", "start") if key in row}
    return {**named, "kind": why.kind, "reason": str(why), "by_rule": why.by_rule}


def make_plan(source: Source, size: int, share: tuple[int, int], text_only: bool, where: str) -> Plan:
    """Look at every track of a share: its file, its header, its captions, its ids; nothing is decoded.

    Units begin and end where they do in the whole source, whatever the share.

    Args:
        source: of the clips.
        size: clips of a unit.
        share: (i, n): the i-th of n runs of units.
        text_only: take the rows as they are.
        where: name of the store, for messages.

    Raises:
        ValueError: there is no row, an id stands twice, or the share is empty.
    """
    tracks = source.tracks
    if not tracks:
        raise ValueError(f"{where}: the source has no rows: there is nothing to encode")
    each = max(1, int(size // (1 if text_only else source.at_once)))
    groups = [tracks[k : k + each] for k in range(0, len(tracks), each)]
    i, n = share
    own = groups[len(groups) * i // n : len(groups) * (i + 1) // n]
    if not own:
        raise ValueError(f"--shard {i}/{n} is empty: there are {len(groups)} units of work, choose n up to that")
    lines, keys, captions = list[bytes](), list[bytes](), list[str]()
    ids, units, failures = list[str](), list[Unit](), list[Failure]()
    bar = Bar("checking", sum(map(len, own)), unit="file", show=not text_only)
    for group in own:
        unit = Unit()
        for track in group:
            bar.update()
            first = len(lines)
            for row, key in _rows(source, track, text_only):
                if isinstance(key, LeftOut):
                    failures.append(failure(row, key))
                    continue
                lines.append(json.dumps(row, sort_keys=True, ensure_ascii=False, allow_nan=False).encode())
                keys.append(key)
                captions.append(row["caption"])
                ids.append(row["id"])
            if len(lines) > first:
                unit.tracks.append((track, first, len(lines)))
        units.append(unit)
    bar.close()
    require_ids(ids, where)
    names = np.array([digest(caption) for caption in captions], dtype="S16")
    chunks = _chunks(source, tracks, captions, lines, size)
    return Plan(lines, np.array(keys, dtype="S16"), names, units, chunks, failures, not text_only)


def _rows(source: Source, track: Track, text_only: bool) -> list[tuple[Row, bytes | LeftOut]]:
    if text_only:
        return [(row, digest(row["id"], row["caption"])) for row in track.rows]
    try:
        return source.clips(track)
    except LeftOut as why:
        return [(row, why) for row in track.rows]


def _chunks(
    source: Source, tracks: Sequence[Track], captions: Sequence[str], lines: Sequence[bytes], size: int
) -> list[list[tuple[str, Row]]]:
    """Distinct captions in the order they first come, ``size`` together.

    Where clips go alone so do texts, and the share's own are enough. Where they go together, who is beside whom must
    not depend on the share: then these are the captions of the whole source.
    """
    first: dict[str, Row] = {}
    if source.alone:
        for caption, line in zip(captions, lines, strict=True):
            if caption not in first:
                first[caption] = json.loads(line)
    else:
        for track in tracks:
            for row in track.rows:
                first.setdefault(row["caption"], row)
    items = list(first.items())
    return [items[k : k + size] for k in range(0, len(items), size)]
