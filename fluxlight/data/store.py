"""The packed latent store: one folder of plain arrays, read by memory map, for a training set or for a list of prompts.

| file | content |
|---|---|
| meta.json | identities of codec, encoders and reward, sizes, statistics, quantiles; written last |
| rows.jsonl | one row a clip: id, caption, tags, where its audio is |
| tokens.npy, offsets.npy | tokens of every distinct text, unpadded ``(sum n_i, E)`` fp16; where each starts |
| text_row.npy, text_c.npy | text of each clip ``(N,)``; global embedding of every distinct text ``(texts, C)`` |
| mean.npy, std.npy | latents ``(N, L, D)``, codec units; none in a store of prompts, no std for a deterministic codec |
| score.npy | reward of each clip ``(N,)`` |

Texts 0 and 1 are the empty and the negative text of guidance. A text is stored once and unpadded: at 535 k clips
padded features would be 84 GB (FACTS section 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fluxlight.files import content, hash_of, read_json, read_jsonl
from fluxlight.tables import first_double
from fluxlight.types import Batch, PromptBatch

VERSION = 1


class LatentStore:
    """Texts of a folder and, where it has them, latents and scores.

    Args:
        folder: made by ``fluxlight encode``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "meta.json").is_file():
            state = "is not finished" if self.folder.is_dir() else "does not exist"
            raise FileNotFoundError(f"store {self.folder} {state}: make it with 'fluxlight encode --out {self.folder}'")
        self.meta: dict[str, Any] = read_json(self.folder / "meta.json")
        if self.meta.get("version") != VERSION:
            raise ValueError(
                f"store {self.folder} has version {self.meta.get('version')}, this fluxlight reads {VERSION}: "
                "encode it again"
            )
        self.rows = read_jsonl(self.folder / "rows.jsonl")
        self.offsets, self.text_row = self._array("offsets"), self._array("text_row")
        self.tokens, self.text_c = self._array("tokens"), self._array("text_c")
        self.mean = self._array("mean") if self.meta["latents"] else None
        self.std = self._array("std") if self.meta["has_std"] else None
        self.score = self._array("score") if self.meta["has_score"] else None
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
        require_keys(self.rows, f"store {self.folder}")
        if self.score is not None and (bad := int((~np.isfinite(self.score)).sum())):
            raise ValueError(
                f"store {self.folder}: score.npy holds {bad} non-finite score(s): delete the folder and encode it again"
            )

    def _array(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        try:
            # small arrays into memory, large ones mapped
            return np.load(path, mmap_mode="r" if path.stat().st_size > 1 << 20 else None)
        except (OSError, ValueError, EOFError):
            raise ValueError(
                f"store {self.folder}: {name}.npy is missing or damaged: delete the folder and encode it again"
            ) from None

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
        try:
            found = self._positions[id]
        except KeyError:
            raise ValueError(
                f"clip {id!r} is not in store {self.folder}: the rows were made from another store"
            ) from None
        if caption is not None and self.rows[found]["caption"] != caption:
            raise ValueError(
                f"clip {id!r} has the caption {self.rows[found]['caption']!r} in store {self.folder}, but the row was "
                f"made for {caption!r}: give the store it was predicted from, or predict again"
            )
        return found

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {row["id"]: i for i, row in enumerate(self.rows)}

    def _text(self, texts: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        length = int(self.meta["text_len"])
        out = torch.zeros(len(texts), length, int(self.meta["text_dim"]))
        for row, text in enumerate(texts):
            tokens = self.tokens[self.offsets[text] : self.offsets[text + 1]][:length]
            out[row, : len(tokens)] = torch.from_numpy(np.array(tokens, dtype=np.float32))
        return out, torch.from_numpy(np.array(self.text_c[np.asarray(texts)], dtype=np.float32))

    @cached_property
    def checksum(self) -> str:
        """Sixteen digits over what is trained on: latents, scores, texts and statistics, wherever the folder lies."""
        names = ("tokens", "offsets", "text_row", "text_c", "mean", "std", "score")
        files = {name: content(path) for name in names if (path := self.folder / f"{name}.npy").is_file()}
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
            mean=_tensor(self.mean[index]), std=None if self.std is None else _tensor(self.std[index]),
            text=text, text_c=text_c, score=None if self.score is None else _tensor(self.score[index]),
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
    if double := first_double(row["id"] for row in rows):
        before, again = double
        raise ValueError(
            f"{where}: id {rows[again]['id']!r} is given twice, in rows {before + 1} and {again + 1}: "
            "give every row an id of its own, and encode to a new folder"
        )


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))
