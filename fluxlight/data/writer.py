"""Writing a store: shards that survive a kill, then one pass that packs them in memory that does not grow."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from fluxlight.data.builder import Precision, StoreBuilder, in_range, require_space
from fluxlight.data.rows import digest, key_of
from fluxlight.data.store import require_keys
from fluxlight.files import atomic_path, read_json, write_json


class LatentStoreWriter:
    """Collects rows shard by shard under ``folder/shards`` and packs them into a `LatentStore`.

    A shard is written atomically; asking `has` before computing one makes a killed run resumable.

    Args:
        folder: of the store.
        recipe: everything the content depends on (corpus, split, encoder identities); a folder begun under another
            recipe is refused.
        precision: of latents and global text embeddings.
    """

    def __init__(self, folder: str | Path, recipe: dict[str, Any], precision: Precision = "float32") -> None:
        self.folder, self.recipe, self.precision = Path(folder), recipe, precision
        self.shards = self.folder / "shards"
        begin(self.folder, recipe)
        if self.finished:
            shutil.rmtree(self.shards, ignore_errors=True)  # a kill may have come between the last file and this

    @property
    def finished(self) -> bool:
        """True when the store is packed."""
        return (self.folder / "meta.json").exists()

    def has(self, number: int) -> bool:
        """True when shard ``number`` is on disk."""
        return self._path(number).exists()

    def _path(self, number: int) -> Path:
        return self.shards / f"{number:06d}.safetensors"

    def write(
        self,
        number: int,
        tokens: Sequence[np.ndarray],
        text_c: np.ndarray,
        mean: np.ndarray | None = None,
        std: np.ndarray | None = None,
        score: np.ndarray | None = None,
    ) -> None:
        """Write n clips: tokens ``[(n_i, E)]``, text_c ``(n, C)``, mean and std ``(n, L, D)``, score ``(n,)``."""
        arrays = {
            "tokens": np.concatenate(list(tokens)).astype(np.float16),
            "lengths": np.array([len(t) for t in tokens], dtype=np.int64),
            "text_c": text_c.astype(self.precision),
        }
        for name, value in (("mean", mean), ("std", std), ("score", score)):
            if value is None:
                continue
            try:
                kept = in_range(value, "float32" if name == "score" else self.precision, name)
            except ValueError as error:
                raise ValueError(
                    f"shard {number} of store {self.folder}: {error}: look at its clips first"
                ) from None
            arrays[name] = np.ascontiguousarray(kept)
        with atomic_path(self._path(number)) as temporary:
            save_file(arrays, str(temporary))

    def finish(
        self,
        rows: Sequence[dict[str, Any]],
        shards: int,
        special: tuple[Sequence[np.ndarray], np.ndarray],
        text_len: int,
        identities: dict[str, str],
        statistics: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        """Pack shards 0 .. shards - 1.

        Args:
            rows: id, caption, ... of every clip in order; ids are keys, a doubled one is refused.
            shards: number of shards.
            special: tokens and text_c of the empty and the negative text.
            text_len: T, tokens of a padded text.
            identities: names and hashes of codec, text encoder, CLAP and reward.
            statistics: mean and std ``(D,)`` that latents are normalised by; None: those of these latents.
        """
        if not rows:
            raise ValueError(f"store {self.folder}: there are no rows to pack: give at least one")
        require_keys(rows, f"store {self.folder}")
        require_space(self.folder, self._needed(len(rows)), "packing store")
        known: dict[bytes, int] = {}
        text_row = np.zeros(len(rows), dtype=np.int64)
        with StoreBuilder(self.folder, self.precision) as builder:
            for tokens, text_c in zip(*special, strict=True):
                builder.text(np.asarray(tokens), text_c)
            position = 0
            for number in range(shards):
                shard = self._load(number)
                last = position + len(shard["lengths"])
                if last > len(rows):
                    break
                builder.clips(shard.get("mean"), shard.get("std"), shard.get("score"))
                pieces = np.split(shard["tokens"], np.cumsum(shard["lengths"])[:-1])
                for row, piece, vector in zip(range(position, last), pieces, shard["text_c"], strict=True):
                    caption = digest(rows[row]["caption"])
                    if caption not in known:
                        known[caption] = len(known) + 2
                        builder.text(piece, vector)
                    text_row[row] = known[caption]
                position = last
            if position != len(rows):
                raise ValueError(
                    f"store {self.folder}: the shards do not hold the expected {len(rows)} clips: delete {self.shards}"
                )
            facts = {"identities": identities, "text_len": text_len, "recipe": self.recipe}
            builder.finish(((row, key_of(row)) for row in rows), text_row, facts, statistics)
        shutil.rmtree(self.shards)

    def _needed(self, rows: int) -> float:
        """Bytes of the latents: what the store has at the least."""
        first = self._load(0)
        return rows * sum(first[name].nbytes for name in ("mean", "std") if name in first) / len(first["lengths"])

    def _load(self, number: int) -> dict[str, np.ndarray]:
        try:
            return load_file(str(self._path(number)))
        except Exception as error:
            raise ValueError(
                f"{self._path(number)} is missing or damaged ({type(error).__name__}): delete it and run again"
            ) from None


def begin(folder: Path, recipe: dict[str, Any]) -> None:
    """Note what a store is made with; one begun with anything else is refused by name, unless nothing came of it."""
    begun, nothing = folder / "recipe.json", {"recipe.json", "failed.jsonl", ".lock"}
    if not begun.exists() or {path.name for path in folder.rglob("*") if path.is_file()} <= nothing:
        (folder / "failed.jsonl").unlink(missing_ok=True)
        write_json(begun, recipe)
        return
    old = read_json(begun)
    if differs := sorted(key for key in old.keys() | recipe.keys() if old.get(key) != recipe.get(key)):
        key = differs[0]
        raise ValueError(
            f"store {folder} was made with {key} = {old.get(key)!r}, now it is {recipe.get(key)!r}: "
            "choose another --out or delete the folder"
        )
