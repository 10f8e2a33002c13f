"""Build a corpus: render what is missing, shard by shard, into the cache; and read it back."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from fluxlight.embedded.corpus.captions import templates_of, write_caption
from fluxlight.embedded.corpus.compose import compose
from fluxlight.embedded.corpus.render import RejectedRender, render_piece
from fluxlight.embedded.corpus.spec import FAULTS, FAULTY_SPLITS, LEVELS, ClipRow, CorpusSpec, generator
from fluxlight.embedded.corpus.synth import SAMPLES
from fluxlight.files import atomic_path, cache_folder, hash_of, sha256, write_json
from fluxlight.files.orphans import end_with_parent
from fluxlight.progress import Bar

SHARD = 50
ATTEMPTS = 5


def make_clip(seed: int, split: str, index: int, fault_share: float) -> tuple[ClipRow, np.ndarray]:
    """Clip ``index`` of ``split`` with its row; a rejected render is composed anew, the same way every time."""
    rng = generator(seed, split, index, "faulty")
    faulty = rng.random() < fault_share and split in FAULTY_SPLITS
    fault = FAULTS[int(rng.integers(len(FAULTS)))] if faulty else None
    level = int(LEVELS[int(rng.integers(len(LEVELS)))]) if faulty else 0
    for attempt in range(ATTEMPTS):
        piece = compose(seed, split, index, attempt)
        try:
            audio = render_piece(piece, fault, level, (seed, split, index))
        except RejectedRender:
            continue
        caption, template = write_caption(piece.tags, generator(seed, split, index, "caption"), templates_of(split))
        return ClipRow(f"{split}-{index:06d}", split, index, seed, attempt, piece.tune, piece.tags["genre"], caption,
                       piece.tags, fault, level, template), audio
    raise ValueError(f"corpus clip {split}-{index:06d} of seed {seed} was rejected {ATTEMPTS} times: report it")


@lru_cache(maxsize=4096)
def _digest(path: str, changed: int, size: int) -> str:
    return sha256(path)


def _checksum(path: Path) -> str:
    """SHA-256 of a file, computed once a process for each state of the file."""
    state = path.stat()
    return _digest(str(path), state.st_mtime_ns, state.st_size)


def _paths(folder: Path, split: str, shard: int) -> tuple[Path, Path]:
    base = folder / split / f"shard-{shard:04d}"
    return base.with_suffix(".npy"), base.with_suffix(".json")


def read_shard(folder: Path, split: str, shard: int) -> tuple[list[ClipRow], str] | str | None:
    """Rows and checksum of a finished shard; None where there is none; a reason (str) where it is broken."""
    audio, sheet = _paths(folder, split, shard)
    if not audio.exists() or not sheet.exists():
        return None
    try:
        kept = json.loads(sheet.read_text(encoding="utf-8"))
        rows = [ClipRow.from_dict(row) for row in kept["rows"]]
    except (ValueError, KeyError, TypeError):
        return "its sheet is not readable"
    if _checksum(audio) != kept["sha256"]:
        return "its checksum is wrong"
    return rows, kept["sha256"]


def _render_shard(spec_seed: int, fault_share: float, folder: str, split: str, shard: int, count: int) -> int:
    """Worker: render the first ``count`` clips of a shard and put audio, then sheet, in place. Returns new clips."""
    path, sheet = _paths(Path(folder), split, shard)
    kept = read_shard(Path(folder), split, shard)
    rows: list[ClipRow] = kept[0][:count] if isinstance(kept, tuple) else []
    audio = np.zeros((count, SAMPLES), np.int16)
    if rows:
        audio[: len(rows)] = np.load(path, mmap_mode="r")[: len(rows)]
    made = count - len(rows)
    for place in range(len(rows), count):
        row, sound = make_clip(spec_seed, split, shard * SHARD + place, fault_share)
        rows.append(row)
        audio[place] = np.round(sound * 32767.0).astype(np.int16)
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            np.save(file, audio)
            file.flush()
            os.fsync(file.fileno())
        digest = sha256(temporary)
    write_json(sheet, {"sha256": digest, "count": count, "rows": [row.as_dict() for row in rows]})
    return made


class AudioShards(Sequence[np.ndarray]):
    """The audio of a split: ``shards[i]`` is ``(441000,)``, a slice or list gives ``(n, 441000)``, float32."""

    def __init__(self, files: list[Path], count: int) -> None:
        self._maps = [np.load(file, mmap_mode="r") for file in files]
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """Clips as float32 in [-1, 1]."""
        if isinstance(index, slice):
            index = range(*index.indices(self._count))
        if isinstance(index, (int, np.integer)):
            place = int(index) + (self._count if index < 0 else 0)
            if not 0 <= place < self._count:
                raise IndexError(f"clip {index} of {self._count}")
            return self._maps[place // SHARD][place % SHARD].astype(np.float32) / 32767.0
        return np.stack([self[int(i)] for i in index]) if len(index) else np.zeros((0, SAMPLES), np.float32)


class Corpus:
    """A built corpus: rows and audio of each split."""

    def __init__(self, spec: CorpusSpec, folder: Path, rows: dict[str, list[ClipRow]], checksum: str) -> None:
        self.spec, self.folder, self._rows, self.checksum = spec, folder, rows, checksum

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that hold clips."""
        return tuple(self._rows)

    def _known(self, split: str) -> None:
        if split not in self._rows:
            raise ValueError(f"corpus has no split {split!r}, only {', '.join(self._rows)}: give its size in the spec")

    def rows(self, split: str) -> list[ClipRow]:
        """Rows of a split, in order."""
        self._known(split)
        return self._rows[split]

    def audio(self, split: str) -> AudioShards:
        """Audio of a split, in the order of its rows."""
        self._known(split)
        count = len(self._rows[split])
        return AudioShards([_paths(self.folder, split, i)[0] for i in range(-(-count // SHARD))], count)


def build(spec: CorpusSpec, folder: Path | str | None = None, jobs: int = 2, progress: bool = True) -> Corpus:
    """Render what is missing of a corpus and open it.

    Finished shards are checked against their checksums and kept, so an interrupted build goes on where it stopped.

    Args:
        spec: which corpus.
        folder: where corpora are cached; None is ``corpus`` in the cache folder.
        jobs: processes that render.
        progress: show a progress bar with the time left.
    """
    root = (Path(folder) if folder is not None else cache_folder() / "corpus") / spec.family
    wanted = [(split, shard, min(SHARD, size - shard * SHARD)) for split, size in spec.sizes.items()
              for shard in range(-(-size // SHARD))]
    try:
        for split in spec.sizes:
            (root / split).mkdir(parents=True, exist_ok=True)
            _sweep(root / split)
        todo = []
        for split, shard, count in wanted:
            state = read_shard(root, split, shard)
            if isinstance(state, str):
                print(f"corpus shard {split}/shard-{shard:04d} is corrupt ({state}): rendering it again")
                for path in _paths(root, split, shard):
                    path.unlink(missing_ok=True)
            if not isinstance(state, tuple) or len(state[0]) < count:
                todo.append((split, shard, count, len(state[0]) if isinstance(state, tuple) else 0))
        _render_all(spec, root, todo, jobs, progress)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            need = sum(count for _, _, count in wanted) * SAMPLES * 2 / 2**20
            raise OSError(f"disk full while writing the corpus to {root}: it needs {need:.0f} MiB in all, what is done "
                          "is kept; free some or set FLUXLIGHT_CACHE to another disk") from None
        raise
    rows: dict[str, list[ClipRow]] = {split: [] for split, size in spec.sizes.items() if size}
    digests = []
    for split, shard, count in wanted:
        kept = json.loads(_paths(root, split, shard)[1].read_text(encoding="utf-8"))
        rows[split] += [ClipRow.from_dict(row) for row in kept["rows"][:count]]
        digests.append(kept["sha256"])
    return Corpus(spec, root, rows, hash_of([row.as_dict() for split in rows for row in rows[split]]))


def _sweep(folder: Path) -> None:
    """Remove what a killed build left half written (older than an hour, so that no other build's work is hit)."""
    for left in folder.glob(".shard-*"):
        try:
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()
        except FileNotFoundError:
            pass


def _render_all(spec: CorpusSpec, root: Path, todo: list[tuple[str, int, int, int]], jobs: int, progress: bool) -> None:
    if not todo:
        return
    total = sum(count - have for _, _, count, have in todo)
    with Bar("corpus", total, unit="clip", show=progress) as bar:
        calls = [(spec.seed, spec.fault_share, str(root), split, shard, count) for split, shard, count, _ in todo]
        if jobs <= 1 or len(calls) == 1:
            for call in calls:
                bar.update(_render_shard(*call))
            return
        # spawned workers: no thread or lock of the caller is copied; FFTs and array code run on one thread each
        with ProcessPoolExecutor(min(jobs, len(calls)), mp_context=get_context("spawn"),
                                 initializer=end_with_parent) as workers:
            futures = [workers.submit(_render_shard, *call) for call in calls]
            try:
                for future in as_completed(futures):
                    bar.update(future.result())
            except BaseException:
                workers.shutdown(wait=False, cancel_futures=True)
                raise
