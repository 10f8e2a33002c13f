"""Building a store in one pass and in constant memory: whatever comes, it is written and forgotten."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fluxlight.data.columns import ColumnWriter
from fluxlight.data.rows import write_rows
from fluxlight.files import read_json, write_json

VERSION = 2
Precision = Literal["float16", "float32"]
BLOCK = 1024
"""Rows whose latents are summed up before they go into the statistics of the store (our choice, kept ever since)."""


class StoreBuilder:
    """Columns of a store, written as they come; `finish` makes them a store.

    In a folder that holds a store already the new files get names of their own, and meta.json, which names the files,
    changes hands at the end: at any moment there is one whole store, the old or the new.

    Args:
        folder: of the store.
        precision: of latents and global text embeddings; token features are float16, scores float32 always.
    """

    def __init__(self, folder: Path, precision: Precision = "float32") -> None:
        self.folder, self.precision = folder, precision
        self._stack = ExitStack()
        old = folder / "meta.json"
        self.old: dict[str, Any] = read_json(old) if old.exists() else {}
        self.generation = int(self.old.get("generation", 0)) + 1 if self.old else 0
        self._columns: dict[str, ColumnWriter] = {}
        self._statistics = LatentStatistics()
        self._scores: list[np.ndarray] = []
        self._ends = [0]
        self._made: dict[str, Any] = {}

    def __enter__(self) -> StoreBuilder:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _column(self, name: str, dtype: str, block: np.ndarray) -> ColumnWriter:
        if name not in self._columns:
            called = f"{name}-{self.generation}" if self.generation else name
            self._columns[name] = ColumnWriter(self._stack, self.folder, called, dtype, block.shape[1:])
        return self._columns[name]

    def text(self, tokens: np.ndarray, text_c: np.ndarray) -> None:
        """Append a text: tokens ``(n, E)``, global embedding ``(C,)``."""
        self._column("tokens", "float16", tokens).add(tokens, whole=True)
        self._column("text_c", self.precision, text_c[None]).add(text_c[None])
        self._ends.append(self._ends[-1] + len(tokens))

    def clips(self, mean: np.ndarray | None, std: np.ndarray | None = None, score: np.ndarray | None = None) -> None:
        """Append n clips: mean and std ``(n, L, D)``, score ``(n,)``."""
        for name, block in (("mean", mean), ("std", std)):
            if block is not None:
                kept = in_range(block, self.precision, name)
                self._column(name, self.precision, kept).add(kept)
                if name == "mean":
                    self._statistics.add(kept)
        if score is not None:
            self._scores.append(np.array(score, dtype=np.float32))

    def extra(self, name: str, values: np.ndarray, made: Any) -> None:
        """Take over an appended column ``(N,)``."""
        self._column(f"column.{name}", "float32", values).add(values)
        self._made[name] = made

    def finish(
        self, rows: Iterable[tuple[dict[str, Any], bytes]], text_row: np.ndarray, facts: dict[str, Any],
        statistics: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        """Write what is left and make the folder a store.

        Args:
            rows: id, caption, ... of every clip in order, each with what it was made from (`rows.key_of`).
            text_row: number of each row's text ``(N,)``; texts 0 and 1 are the empty and the negative one.
            facts: of meta.json: identities, text_len, recipe.
            statistics: mean and std ``(D,)`` that latents are normalised by; None: those of these latents.
        """
        name = f"rows-{self.generation}" if self.generation else "rows"
        files: dict[str, list[dict[str, Any]]] = {}
        files["rows"], files["index"] = write_rows(self._stack, self.folder, name, rows)
        for column, values in (("offsets", np.array(self._ends, np.int64)), ("text_row", text_row.astype(np.int64))):
            self._column(column, values.dtype.str, values).add(values)
        score = np.concatenate(self._scores) if self._scores else None
        if score is not None:
            self._column("score", "float32", score).add(score)
        n = len(text_row)
        for column, writer in self._columns.items():
            writer.close()
            files[column] = writer.files
            if column not in ("tokens", "text_c", "offsets") and writer.rows != n:
                raise ValueError(f"store {self.folder}: {column} has {writer.rows} rows where there are {n} clips")
        meta: dict[str, Any] = {
            "version": VERSION, "generation": self.generation, "n": n, "files": files,
            "precision": self.precision, **facts,
            "text_dim": self._columns["tokens"].shape[0], "text_c_dim": self._columns["text_c"].shape[0],
            "latents": "mean" in files, "has_std": "std" in files, "has_score": score is not None,
        }  # fmt: skip
        if "mean" in files:
            shape, found = self._columns["mean"].shape, self._statistics.found()
            known = found if statistics is None else statistics
            meta |= {"latent_len": shape[0], "latent_dim": shape[1]}
            meta |= {"latent_mean": known[0].tolist(), "latent_std": known[1].tolist()}
        if score is not None:
            meta |= moments(score)
        if self._made:
            meta["columns"] = self._made
        # into place; last meta.json: what it names is a whole store
        self._stack.close()
        write_json(self.folder / "meta.json", meta)
        sweep(self.folder)


def sweep(folder: Path) -> None:
    """Remove files of a store that its meta.json does not name: of an update that was replaced, or was killed."""
    meta = read_json(folder / "meta.json")
    if "files" not in meta:
        return
    named = {file["name"] for files in meta["files"].values() for file in files}
    columns = "|".join(map(re.escape, meta["files"]))
    ours = re.compile(rf"(({columns})(-\d+)?(\.\d{{5}})?\.npy|rows(-\d+)?(\.index\.npy|\.jsonl))")
    for path in folder.iterdir():
        if ours.fullmatch(path.name) and path.name not in named:
            path.unlink()


def in_range(values: np.ndarray, precision: Precision, name: str) -> np.ndarray:
    """Values as they are stored; what is no number there is an error."""
    with np.errstate(over="ignore"):
        kept = np.asarray(values).astype(precision)
    if not np.isfinite(kept).all():
        why = "is not finite" if not np.isfinite(values).all() else "is too large for float16: set precision to float32"
        raise ValueError(f"{name} {why}")
    return kept


def require_space(folder: Path, needed: float, what: str) -> None:
    """Raise where the disk of ``folder`` has less room than ``needed`` bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{what} {folder} needs {amount(needed)}, its disk has {amount(free)} free: "
            "free some, or choose another disk with --out"
        )


def amount(size: float) -> str:
    """Bytes as kB, MB or GB of a thousand each."""
    unit, name = (1e9, "GB") if size >= 1e9 else (1e6, "MB") if size >= 1e6 else (1e3, "kB")
    return f"{size / unit:,.1f} {name}"


class LatentStatistics:
    """Mean and standard deviation of each channel over latents that come in blocks ``(n, L, D)``, in float64.

    Sums are closed every `BLOCK` clips, so they are the same however the clips were grouped.
    """

    def __init__(self) -> None:
        self.clips = self.count = 0
        self._open: list[np.ndarray] = []
        self._sums: list[np.ndarray] = []

    def add(self, block: np.ndarray) -> None:
        """Take clips."""
        while len(block):
            part = block[: BLOCK - self.clips % BLOCK].astype(np.float64)
            flat = part.reshape(-1, part.shape[-1])
            begun: list[np.ndarray | None] = [*self._open] or [None, None]
            self._open = [_sum_after(before, more) for before, more in zip(begun, (flat, flat**2), strict=True)]
            self.clips, self.count, block = self.clips + len(part), self.count + len(flat), block[len(part) :]
            if self.clips % BLOCK == 0:
                self._close()

    def _close(self) -> None:
        if self._open:
            self._sums = self._open if not self._sums else [a + b for a, b in zip(self._sums, self._open, strict=True)]
            self._open = []

    def found(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation ``(D,)``."""
        self._close()
        mean = self._sums[0] / self.count
        return mean, np.sqrt(np.maximum(self._sums[1] / self.count - mean**2, 1e-12))


def _sum_after(before: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """Sum over rows, begun with ``before``: the order of additions is that of one sum over all."""
    return (rows if before is None else np.concatenate([before[None], rows])).sum(0)


def moments(score: np.ndarray) -> dict[str, Any]:
    """What meta.json says about scores ``(N,)``."""
    quantiles = (0.01, 0.1, 0.5, 0.9, 0.99)
    return {
        "score_mean": float(score.mean(dtype=np.float64)),
        "score_std": float(score.std(dtype=np.float64)),
        "score_quantiles": {str(q): float(np.quantile(score.astype(np.float64), q)) for q in quantiles},
    }
