"""Parts: what units of work leave behind, each file written whole and named by what it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from fluxlight.files import atomic_path, hash_of

CLIPS, TEXTS = "shards", "texts"
"""Folders below a store that is being made."""


def write_part(folder: Path, keys: Sequence[bytes], arrays: dict[str, np.ndarray]) -> None:
    """Write arrays whose rows are made from ``keys``."""
    held = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 16)
    name = hash_of([key.hex() for key in keys])
    with atomic_path(folder / f"{name}.safetensors") as temporary:
        save_file({"keys": held, **{k: np.ascontiguousarray(v) for k, v in arrays.items()}}, str(temporary))


def text_arrays(tokens: Sequence[np.ndarray], text_c: np.ndarray, precision: str) -> dict[str, np.ndarray]:
    """Texts as a part holds them: tokens end to end, how many each has, global embeddings."""
    return {
        "tokens": np.concatenate(list(tokens)).astype(np.float16),
        "lengths": np.array([len(piece) for piece in tokens], dtype=np.int64),
        "text_c": text_c.astype(precision),
    }


@dataclass
class Parts:
    """The parts of a folder, found by what rows were made from.

    Attributes:
        paths: of the files.
        keys: of all their rows ``(M,)``, sorted, sixteen bytes.
        file, place: of each key: which file, which row of it ``(M,)``.
    """

    paths: list[Path]
    keys: np.ndarray
    file: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, folder: Path) -> Parts:
        """Look through a folder; a file that is damaged is removed, so that its work is done again."""
        paths, held = list[Path](), [np.zeros(0, "S16")]
        for path in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(path, "numpy") as part:
                    keys = part.get_tensor("keys")
            except (OSError, SafetensorError):
                path.unlink()
                continue
            paths.append(path)
            held.append(np.ascontiguousarray(keys).view("S16").reshape(-1))
        keys = np.concatenate(held)
        file = np.repeat(np.arange(len(paths)), [len(part) for part in held[1:]])
        place = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(part)) for part in held[1:])])
        order = np.argsort(keys, kind="stable")
        return cls(paths, keys[order], file[order], place[order])

    def find(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """File and row of every wanted key ``(N,)``; file -1 where there is none."""
        if not len(self.keys):
            return np.full(len(wanted), -1), np.zeros(len(wanted), np.int64)
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[at] == wanted, self.file[at], -1), self.place[at]

    def load(self, number: int) -> dict[str, np.ndarray]:
        """Arrays of a file."""
        return load_file(str(self.paths[number]))


def runs(file: np.ndarray, most: int = 256) -> Iterator[tuple[int, int]]:
    """Start and stop of stretches that lie in one file, ``most`` rows at a time."""
    cuts = [0, *(np.flatnonzero(np.diff(file)) + 1).tolist(), len(file)]
    for start, stop in pairwise(cuts):
        for first in range(start, stop, most):
            yield first, min(first + most, stop)
