"""A column of a store: rows of one shape in a few large ``.npy`` files, read row by row, written in one pass.

Rows are read by position and not through a memory map: a file that is cut short, or a disk that is gone, is then an
error with a name and never a bus error; what has been read does not count as memory of the process; and all rows of
a batch are asked of the disk at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fluxlight.files import atomic_path, sha256

SHARD_BYTES = 2 * 10**9
"""A file of a column is closed before it grows beyond this."""


class Column:
    """Rows of a column, read from its files.

    Args:
        paths: its files in order, ``.npy`` each with rows of one shape and type.

    Attributes:
        shape: ``(N, ...)`` over all files.
        dtype: of the rows as they are stored.

    Raises:
        ValueError: a file is missing, damaged, or of another shape than the first.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        heads = [_head(path) for path in self.paths]
        first = heads[0]
        for path, head in zip(self.paths, heads, strict=True):
            if head[1][1:] != first[1][1:] or head[2] != first[2]:
                raise ValueError(f"{path} holds rows of another kind than {self.paths[0].name}")
        self._begin = [head[0] for head in heads]
        self._first = np.concatenate([[0], np.cumsum([head[1][0] for head in heads])]).astype(np.int64)
        self.shape, self.dtype = (int(self._first[-1]), *first[1][1:]), first[2]
        self._size = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self._open: list[int | None] = [None] * len(self.paths)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows ``(n, ...)`` of an index array or slice, or the row of a number, as they are stored."""
        if isinstance(index, slice):
            index = range(*index.indices(len(self)))
        if isinstance(index, int | np.integer):
            return self.read([int(index)])[0]
        return self.read(index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self.span(0, len(self))
        return whole if dtype is None else whole.astype(dtype)

    def __getstate__(self) -> dict[str, Any]:
        # a process that reads opens the files for itself
        return {**self.__dict__, "_open": [None] * len(self.paths)}

    def __del__(self) -> None:
        for handle in getattr(self, "_open", []):
            if handle is not None:
                os.close(handle)

    def read(self, index: Sequence[int] | np.ndarray) -> np.ndarray:
        """Rows ``(n, ...)``, as they are stored, in the order of ``index``."""
        numbers = np.asarray(index, dtype=np.int64)
        if len(numbers) and (numbers.min() < -len(self) or numbers.max() >= len(self)):
            raise IndexError(f"row {int(numbers.max())} of {len(self)}")
        numbers = np.where(numbers < 0, numbers + len(self), numbers)
        out = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        self.ask(numbers, np.ones_like(numbers))
        for place, number in enumerate(numbers.tolist()):
            self._fill(out[place : place + 1], number, 1)
        return out

    def span(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Rows start .. stop - 1, into ``out`` if it is given."""
        out, place = np.empty((stop - start, *self.shape[1:]), self.dtype) if out is None else out, start
        while place < stop:
            end = min(stop, int(self._first[self._file(place) + 1]))
            self._fill(out[place - start : end - start], place, end - place)
            place = end
        return out

    def ask(self, starts: np.ndarray, counts: np.ndarray) -> None:
        """Tell the system which rows are about to be read: of a disk that takes its time, all at once."""
        if not hasattr(os, "posix_fadvise") or len(starts) < 2:
            return
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
            if count:
                file = self._file(start)
                place = self._begin[file] + (start - int(self._first[file])) * self._size
                os.posix_fadvise(self._handle(file), place, count * self._size, os.POSIX_FADV_WILLNEED)

    def _file(self, row: int) -> int:
        return int(np.searchsorted(self._first, row, side="right")) - 1 if len(self.paths) > 1 else 0

    def _handle(self, file: int) -> int:
        handle = self._open[file]
        if handle is None:
            handle = self._open[file] = os.open(self.paths[file], os.O_RDONLY)
        return handle

    def _fill(self, out: np.ndarray, row: int, count: int) -> None:
        """Read ``count`` rows of one file into ``out``."""
        file = self._file(row)
        view, place = memoryview(out.reshape(-1).view(np.uint8).data), self._begin[file]
        place += (row - int(self._first[file])) * self._size
        while view:
            got = os.preadv(self._handle(file), [view], place)
            if got <= 0:
                raise ValueError(f"{self.paths[file]} ends before row {row}: it was cut short, copy or encode it again")
            view, place = view[got:], place + got


def _head(path: Path) -> tuple[int, tuple[int, ...], np.dtype]:
    """Where the rows of a file begin, its shape and its type."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            begin = file.tell()
        if fortran or not shape or dtype.hasobject:
            raise ValueError
        if path.stat().st_size != begin + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
            raise ValueError
    except (OSError, ValueError, EOFError, SyntaxError):
        raise ValueError(f"{path.name} is missing or damaged") from None
    return begin, shape, dtype


def floats(values: np.ndarray) -> Tensor:
    """Rows as float32, converted by torch, which is many times faster at it than numpy."""
    return torch.from_numpy(np.ascontiguousarray(values)).float()


class ColumnWriter:
    """Writes a column block by block; a file is closed before it would pass `SHARD_BYTES`.

    Args:
        stack: holds the temporary files; its good end puts them in place, any other removes them.
        folder: of the store.
        name: of the column; files are ``name.npy``, ``name.00001.npy``, ...
        dtype: as which rows are stored.
        shape: of a row.
    """

    def __init__(self, stack: ExitStack, folder: Path, name: str, dtype: Any, shape: tuple[int, ...] = ()) -> None:
        self.stack, self.folder, self.name, self.dtype, self.shape = stack, folder, name, np.dtype(dtype), shape
        self.files: list[dict[str, Any]] = []
        self.rows = self._rows = 0
        self._file: Any = None

    def add(self, block: np.ndarray, whole: bool = False) -> None:
        """Append rows ``(n, ...)``; a ``whole`` block stays in one file.

        Where files end depends on the rows alone, not on the blocks they come in.
        """
        block = np.ascontiguousarray(block, dtype=self.dtype)
        if block.shape[1:] != self.shape:
            raise ValueError(f"column {self.name}: rows have shape {block.shape[1:]}, the first had {self.shape}")
        most = max(1, SHARD_BYTES // max(1, self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))))
        while len(block):
            if self._rows and (self._rows + len(block) > most if whole else self._rows == most):
                self.close()
            if self._file is None:
                self._begin()
            part = block if whole else block[: most - self._rows]
            self._file.write(memoryview(part.reshape(-1).view(np.uint8).data))
            self._rows += len(part)
            self.rows += len(part)
            block = block[len(part) :]

    def _begin(self) -> None:
        name = f"{self.name}.npy" if not self.files else f"{self.name}.{len(self.files):05d}.npy"
        self._path = self.stack.enter_context(atomic_path(self.folder / name))
        # buffered: a text of a few rows is no write of its own
        self._file = self.stack.enter_context(self._path.open("wb", buffering=1 << 20))
        self.files.append({"name": name})
        self._write_head()

    def _write_head(self) -> None:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self._rows, *self.shape)}
        # numpy leaves room for the first axis to grow, so this is as long at the end as it was at the beginning
        np.lib.format.write_array_header_1_0(self._file, header)

    def close(self) -> None:
        """End the file that is being written: its length, its checksum."""
        if self._file is None and self.files:
            return
        if self._file is None:
            self._begin()
        self._file.seek(0)
        self._write_head()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file, self._rows = None, 0
        self.files[-1] |= {"bytes": self._path.stat().st_size, "sha256": sha256(self._path)}
