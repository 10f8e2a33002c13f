"""The packed latent store: one folder of plain arrays, for a training set or for a list of prompts.

| file | content |
|---|---|
| meta.json | version, identities of codec, encoders and reward, sizes, statistics, files with checksums; written last |
| rows.jsonl, rows.index.npy | one row a clip: id, caption, tags, its audio; where each begins, hash of its id |
| tokens.npy, offsets.npy | tokens of every distinct text, unpadded ``(sum n_i, E)`` fp16; where each starts |
| text_row.npy, text_c.npy | text of each clip ``(N,)``; global embedding of every distinct text ``(texts, C)`` |
| mean.npy, std.npy | latents ``(N, L, D)``, codec units; none in a store of prompts, no std for a deterministic codec |
| score.npy | reward of each clip ``(N,)`` |

A column of more than 2 GB goes on in ``mean.00001.npy`` and so on. Latents are float16, or float32 where they were
asked to be. Texts 0 and 1 are the empty and the negative text of guidance. A text is stored once and unpadded: at 535 k
clips padded features would be 84 GB (FACTS section 8). Stores of version 1 (one file a column, float32, no index and no
checksums) are read as they are; ``fluxlight store convert`` makes them version 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fluxlight.data.columns import Column, floats
from fluxlight.data.rows import Rows
from fluxlight.files import content, hash_of, read_json
from fluxlight.tables import first_double
from fluxlight.types import Batch, PromptBatch

VERSIONS = (1, 2)
SMALL = 16 << 20
"""Bytes up to which a column is read once and kept."""


class LatentStore:
    """Texts of a folder and, where it has them, latents and scores.

    Args:
        folder: made by ``fluxlight encode``.
        score_column: an appended column in place of the store's own scores; None: those.
    """

    def __init__(self, folder: str | Path, score_column: str | None = None) -> None:
        self.folder = Path(folder)
        if not (self.folder / "meta.json").is_file():
            state = "is not finished" if self.folder.is_dir() else "does not exist"
            raise FileNotFoundError(f"store {self.folder} {state}: make it with 'fluxlight encode --out {self.folder}'")
        self.meta: dict[str, Any] = read_json(self.folder / "meta.json")
        if self.meta.get("version") not in VERSIONS:
            raise ValueError(
                f"store {self.folder} has version {self.meta.get('version')}, this fluxlight reads "
                f"{' and '.join(map(str, VERSIONS))}: use the fluxlight that made it, or encode it again"
            )
        self.rows = self._rows()
        self.offsets, self.text_row = self._column("offsets"), self._column("text_row")
        self.tokens, self.text_c = self._column("tokens"), self._column("text_c")
        self.mean = self._column("mean") if self.meta["latents"] else None
        self.std = self._column("std") if self.meta["has_std"] else None
        self.score_name = "score" if score_column is None else f"column.{score_column}"
        self.score = self._score(score_column)
        lengths = {"rows.jsonl": len(self.rows), "text_row.npy": len(self.text_row)}
        lengths |= {
            f"{k}.npy": len(v)
            for k, v in (("mean", self.mean), ("std", self.std), ("score", self.score))
            if v is not None
        }
        for name, length in lengths.items():
            if length != self.meta["n"]:
                raise ValueError(
                    f"store {self.folder}: {name} has {length} rows, meta.json says {self.meta['n']}: encode it again"
                )
        if double := self.rows.double():
            raise _doubled(f"store {self.folder}", self.rows[double[1]]["id"], *double)
        if self.score is not None and (bad := int((~np.isfinite(self.score)).sum())):
            raise ValueError(
                f"store {self.folder}: {self.score_name}.npy holds {bad} non-finite score(s): "
                f"{'delete the folder and encode it' if score_column is None else 'append it'} again"
            )

    @property
    def columns(self) -> dict[str, Any]:
        """Appended columns: name -> where they are from."""
        return self.meta.get("columns", {})

    def _score(self, name: str | None) -> np.ndarray | None:
        if name is None:
            return np.asarray(self._column("score")) if self.meta["has_score"] else None
        if name not in self.columns:
            there = ", ".join(self.columns) or "none"
            raise ValueError(
                f"store {self.folder} has no column {name!r} (there is {there}): append it with "
                f"'fluxlight store column {self.folder} --name {name} --table scores.tsv'"
            )
        return self.appended(name)

    def appended(self, name: str) -> np.ndarray:
        """An appended column ``(N,)``, which may lack values (NaN) of rows that came after it."""
        return np.asarray(self._column(f"column.{name}"))

    def _files(self, name: str, ending: str = "npy") -> list[Path]:
        files = self.meta.get("files", {}).get(name)
        return [self.folder / file["name"] for file in files] if files else [self.folder / f"{name}.{ending}"]

    def _rows(self) -> Rows:
        (path,), kept = self._files("rows", "jsonl"), self.meta.get("files", {}).get("index")
        try:
            if kept is None:
                return Rows(path)
            return Rows(path, self.folder / kept[0]["name"], self.meta["files"]["rows"][0]["sha256"])
        except ValueError as error:
            raise ValueError(f"store {self.folder}: {error}: delete the folder and encode it again") from None

    def _column(self, name: str) -> Any:
        """A column: read and kept where it is small, read row by row where it is not."""
        try:
            column = Column(self._files(name))
        except ValueError as error:
            raise ValueError(f"store {self.folder}: {error}: delete the folder and encode it again") from None
        size = column.dtype.itemsize * int(np.prod(column.shape, dtype=np.int64))
        return np.asarray(column) if size <= SMALL else column

    def __len__(self) -> int:
        return int(self.meta["n"])

    @property
    def captions(self) -> list[str]:
        """Text of each clip, as it was encoded without its prefix."""
        return [row["caption"] for row in self.rows]

    def position(self, id: str, caption: str | None = None) -> int:
        """Row of a clip id, which must have this caption: nothing is trained under another text than it was made for.

        Args:
            id: of the clip.
            caption: what it must be called there; None asks for the id alone.
        """
        found = self.rows.find(id)
        if found is None:
            raise ValueError(
                f"clip {id!r} is not in store {self.folder}: the rows were made from another store"
            )
        if caption is not None and self.rows[found]["caption"] != caption:
            raise ValueError(
                f"clip {id!r} has the caption {self.rows[found]['caption']!r} in store {self.folder}, but the row was "
                f"made for {caption!r}: give the store it was predicted from, or predict again"
            )
        return found

    def _text(self, texts: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        length, index = int(self.meta["text_len"]), np.asarray(texts, dtype=np.int64)
        # as they are stored, then converted in one go
        out = np.empty((len(index), length, int(self.meta["text_dim"])), self.tokens.dtype)
        starts = np.asarray(self.offsets[index])
        counts = np.minimum(np.asarray(self.offsets[index + 1]) - starts, length)
        if isinstance(self.tokens, Column):
            self.tokens.ask(starts, counts)
        for row, start, count in zip(out, starts.tolist(), counts.tolist(), strict=True):
            if isinstance(self.tokens, Column):
                self.tokens.span(start, start + count, row[:count])
            else:
                row[:count] = self.tokens[start : start + count]
            row[count:] = 0
        return floats(out), floats(self.text_c[index])

    @cached_property
    def checksum(self) -> str:
        """Sixteen digits over what is trained on: latents, scores, texts and statistics, wherever the folder lies."""
        names = ("tokens", "offsets", "text_row", "text_c", "mean", "std", self.score_name)
        files: dict[str, Any] = {}
        for name in names:
            paths = [path for path in self._files(name) if path.is_file()]
            if paths:
                found = [content(path) for path in paths]
                files[name] = found[0] if len(found) == 1 else found
        return hash_of([files, self.meta.get("latent_mean"), self.meta.get("latent_std")])

    @property
    def empty(self) -> tuple[Tensor, Tensor]:
        """Features of the empty text: ``(T, E)`` and ``(C,)``."""
        text, text_c = self._text([0])
        return text[0], text_c[0]

    @property
    def negative(self) -> tuple[Tensor, Tensor]:
        """Features of the negative text of guidance: ``(T, E)`` and ``(C,)``."""
        text, text_c = self._text([1])
        return text[0], text_c[0]

    @property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """Per-channel mean and standard deviation of the latents ``(D,)`` each."""
        self.require_latents()
        return torch.tensor(self.meta["latent_mean"]), torch.tensor(self.meta["latent_std"])

    def score_quantile(self, q: float) -> float:
        """The q-quantile of the training scores."""
        if self.score is None:
            raise ValueError(
                f"store {self.folder} has no scores: encode it with a reward, or set model.score_quantile to null"
            )
        return float(np.quantile(np.asarray(self.score, dtype=np.float64), q))

    def require_latents(self) -> None:
        """Raise where the folder holds prompts only."""
        if self.mean is None:
            raise ValueError(f"store {self.folder} holds prompts only: training needs one made without --text_only")

    def require_finite_texts(self) -> None:
        """Raise where a text that is to be rendered is not finite."""
        for row, text in enumerate(self.text_row):
            tokens = np.asarray(self.tokens[self.offsets[text] : self.offsets[text + 1]], dtype=np.float32)
            if not (np.isfinite(tokens).all() and np.isfinite(self.text_c[text]).all()):
                raise ValueError(
                    f"slice {self.folder}: the text of {self.rows[row]['id']} is not finite: "
                    "delete the folder and encode it again"
                )

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """The clips of ``indices``; see `Batch` for shapes."""
        self.require_latents()
        assert self.mean is not None
        index = np.asarray(indices, dtype=np.int64)
        text, text_c = self._text(self.text_row[index])
        return Batch(
            mean=floats(self.mean[index]), std=None if self.std is None else floats(self.std[index]),
            text=text, text_c=text_c, score=None if self.score is None else floats(self.score[index]),
            index=torch.from_numpy(index),
        )  # fmt: skip

    def prompts(self, indices: Sequence[int], seeds: Sequence[int]) -> PromptBatch:
        """The texts of ``indices`` as prompts with a noise seed each."""
        index = np.asarray(indices, dtype=np.int64)
        text, text_c = self._text(self.text_row[index])
        rows = [self.rows[i] for i in index]
        return PromptBatch(
            [r["id"] for r in rows], [r["caption"] for r in rows], text, text_c, torch.tensor(list(seeds))
        )


def require_keys(rows: Sequence[dict[str, Any]], where: str) -> None:
    """Raise where two rows have one id: ids are what candidates, experts and pairs find their caption by."""
    require_ids([row["id"] for row in rows], where)


def require_ids(ids: Sequence[str], where: str) -> None:
    """Raise where an id stands twice."""
    if double := first_double(ids):
        raise _doubled(where, ids[double[1]], *double)


def _doubled(where: str, id: str, before: int, again: int) -> ValueError:
    return ValueError(
        f"{where}: id {id!r} is given twice, in rows {before + 1} and {again + 1}: "
        "give every row an id of its own, and encode to a new folder"
    )
