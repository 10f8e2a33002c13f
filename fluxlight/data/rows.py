"""The rows of a store: one JSON object a line, and an index that finds a line, an id or what a row was made from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from fluxlight.data.columns import Column, ColumnWriter
from fluxlight.files import atomic_path, sha256
from fluxlight.tables import same

WIDTH = 4
"""Numbers of a row in the index: where its line begins, the hash of its id, and two that name what it was made from."""


def digest(*parts: Any) -> bytes:
    """Sixteen bytes that name a value: what a text or a row was made from."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")).digest()[:16]


def key_of(row: dict[str, Any]) -> bytes:
    """What a row's arrays were made from, where nothing else says it: its id and caption."""
    return digest(row["id"], row["caption"])


def id_hash(id: str) -> int:
    """64 bits of an id, however its accents are written."""
    return int.from_bytes(hashlib.blake2b(same(id).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Rows(Sequence[dict[str, Any]]):
    """The rows of a store, each read when it is asked for.

    Args:
        path: ``rows.jsonl``.
        index: ``rows.index.npy`` beside it; None, or one of another rows.jsonl, is made anew in memory.
        checksum: SHA-256 that rows.jsonl had when the index was written.
    """

    def __init__(self, path: Path, index: Path | None = None, checksum: str = "") -> None:
        self.path = path
        try:
            if index is not None and checksum == sha256(path):
                self.table = np.asarray(Column([index]))
            else:
                self.table = _indexed(path)
        except OSError:
            raise ValueError(f"{path.name} is missing or damaged") from None
        self._bytes = path.stat().st_size
        self._handle: int | None = None

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: Any) -> Any:
        """A row, or the list of a slice's rows."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= number < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        begin = int(self.table[number, 0])
        end = int(self.table[number + 1, 0]) if number + 1 < len(self) else self._bytes
        if self._handle is None:
            self._handle = os.open(self.path, os.O_RDONLY)
        return json.loads(os.pread(self._handle, end - begin, begin))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (json.loads(line) for line in self.lines())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            os.close(self._handle)  # type: ignore[arg-type]

    def lines(self) -> Iterator[bytes]:
        """Every row as its line."""
        with self.path.open("rb") as file:
            yield from (line for line in file if line.strip())

    @property
    def keys(self) -> np.ndarray:
        """What each row was made from ``(N,)``, sixteen bytes each."""
        return np.ascontiguousarray(self.table[:, 2:]).view("S16").reshape(-1)

    def find(self, id: str) -> int | None:
        """Number of the row of an id."""
        hashes, order = self._sorted
        wanted = np.uint64(id_hash(id))
        place = int(np.searchsorted(hashes, wanted))
        while place < len(hashes) and hashes[place] == wanted:
            if same(self[int(order[place])]["id"]) == same(id):
                return int(order[place])
            place += 1
        return None

    @property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        if not hasattr(self, "_by_id"):
            order = np.argsort(self.table[:, 1], kind="stable")
            self._by_id = self.table[order, 1], order
        return self._by_id

    def double(self) -> tuple[int, int] | None:
        """Numbers of two rows of one id; None where ids are keys."""
        hashes, order = self._sorted
        found = np.flatnonzero(hashes[1:] == hashes[:-1])
        pairs = sorted((int(order[k + 1]), int(order[k])) for k in found)
        return next(((a, b) for b, a in pairs if same(self[a]["id"]) == same(self[b]["id"])), None)


def _indexed(path: Path) -> np.ndarray:
    """The index of a rows.jsonl that has none."""
    entries, begin = [], 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                if line.strip():
                    row = json.loads(line)
                    entries.append(_entry(begin, str(row["id"]), key_of(row)))
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{path.name} line {number} is no row with id and caption") from None
            begin += len(line)
    return np.array(entries, dtype=np.uint64).reshape(-1, WIDTH)


def _entry(begin: int, id: str, key: bytes) -> tuple[int, ...]:
    return begin, id_hash(id), *(int.from_bytes(key[k : k + 8], "little") for k in (0, 8))


def write_rows(
    stack: ExitStack, folder: Path, name: str, rows: Iterable[tuple[dict[str, Any], bytes]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write rows and their index, and say what the files are: those of the rows, those of the index.

    Args:
        stack: see `ColumnWriter`.
        folder: of the store.
        name: of the files without suffix.
        rows: each with what it was made from.
    """
    path = stack.enter_context(atomic_path(folder / f"{name}.jsonl"))
    index = ColumnWriter(stack, folder, f"{name}.index", np.uint64, (WIDTH,))
    begin, block = 0, list[tuple[int, ...]]()
    with path.open("wb") as file:
        for row, key in rows:
            text = json.dumps(row, sort_keys=True, ensure_ascii=False, allow_nan=False)
            line = text.encode("utf-8", "backslashreplace") + b"\n"
            block.append(_entry(begin, row["id"], key))
            begin += file.write(line)
            if len(block) == 4096:
                index.add(np.array(block, dtype=np.uint64))
                block.clear()
        file.flush()
        os.fsync(file.fileno())
    if block:
        index.add(np.array(block, dtype=np.uint64))
    index.close()
    return [{"name": f"{name}.jsonl", "bytes": begin, "sha256": sha256(path)}], index.files
