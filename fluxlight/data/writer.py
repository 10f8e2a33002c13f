"""Writing a store: shards that survive a kill, then one pass that packs them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from fluxlight.data.store import VERSION, require_keys
from fluxlight.files import atomic_path, read_json, write_json, write_jsonl


class LatentStoreWriter:
    """Collects rows shard by shard under ``folder/shards`` and packs them into a `LatentStore`.

    A shard is written atomically; asking `has` before computing one makes a killed run resumable.

    Args:
        folder: of the store.
        recipe: everything the content depends on (corpus, split, encoder identities); a folder begun under another
            recipe is refused.
    """

    def __init__(self, folder: str | Path, recipe: dict[str, Any]) -> None:
        self.folder, self.recipe = Path(folder), recipe
        self.shards = self.folder / "shards"
        begun = self.folder / "recipe.json"
        if begun.exists():
            old = read_json(begun)
            differs = sorted(key for key in old.keys() | recipe.keys() if old.get(key) != recipe.get(key))
            if differs:
                key = differs[0]
                raise ValueError(
                    f"store {self.folder} was made with {key} = {old.get(key)!r}, now it is {recipe.get(key)!r}: "
                    "choose another --out or delete the folder"
                )
        else:
            write_json(begun, recipe)
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
            "text_c": text_c.astype(np.float32),
        }
        for name, value in (("mean", mean), ("std", std), ("score", score)):
            if value is not None:
                if not np.isfinite(value).all():
                    raise ValueError(
                        f"shard {number} of store {self.folder}: {name} is not finite: look at its clips first"
                    )
                arrays[name] = np.ascontiguousarray(value, dtype=np.float32)
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
        require_keys(rows, f"store {self.folder}")
        texts = [np.asarray(t, dtype=np.float16) for t in special[0]]
        text_c = [*special[1].astype(np.float32)]
        known: dict[str, int] = {}
        text_row = np.zeros(len(rows), dtype=np.int64)
        with ExitStack() as open_files:
            columns: dict[str, np.ndarray] = {}
            position = 0
            for number in range(shards):
                shard = self._load(number)
                last = position + len(shard["lengths"])
                if last > len(rows):
                    break
                for name in {"mean", "std", "score"} & shard.keys():
                    if name not in columns:
                        path = open_files.enter_context(atomic_path(self.folder / f"{name}.npy"))
                        shape = (len(rows), *shard[name].shape[1:])
                        columns[name] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
                    columns[name][position:last] = shard[name]
                pieces = np.split(shard["tokens"], np.cumsum(shard["lengths"])[:-1])
                for row, piece, vector in zip(range(position, last), pieces, shard["text_c"], strict=True):
                    caption = rows[row]["caption"]
                    if caption not in known:
                        known[caption] = len(texts)
                        texts.append(piece)
                        text_c.append(vector)
                    text_row[row] = known[caption]
                position = last
            if position != len(rows):
                raise ValueError(
                    f"store {self.folder}: the shards do not hold the expected {len(rows)} clips: delete {self.shards}"
                )
            meta: dict[str, Any] = {
                "version": VERSION, "n": len(rows), "identities": identities, "text_len": text_len,
                "text_dim": int(texts[0].shape[1]), "text_c_dim": len(text_c[0]), "recipe": self.recipe,
                "latents": "mean" in columns, "has_std": "std" in columns, "has_score": "score" in columns,
            }  # fmt: skip
            for name, column in columns.items():
                meta |= summary(name, column)
                column.flush()  # type: ignore[attr-defined]
            if statistics is not None and "mean" in columns:
                meta |= {"latent_mean": statistics[0].tolist(), "latent_std": statistics[1].tolist()}
        lengths = [len(t) for t in texts]
        self._save("tokens", np.concatenate(texts))
        self._save("offsets", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        self._save("text_row", text_row)
        self._save("text_c", np.stack(text_c))
        write_jsonl(self.folder / "rows.jsonl", rows)
        # last: a folder with meta.json is a whole store
        write_json(self.folder / "meta.json", meta)
        shutil.rmtree(self.shards)

    def _load(self, number: int) -> dict[str, np.ndarray]:
        try:
            return load_file(str(self._path(number)))
        except Exception as error:
            raise ValueError(
                f"{self._path(number)} is missing or damaged ({type(error).__name__}): delete it and run again"
            ) from None

    def _save(self, name: str, value: np.ndarray) -> None:
        with atomic_path(self.folder / f"{name}.npy") as temporary:
            np.save(temporary, value)


def summary(name: str, column: np.ndarray) -> dict[str, Any]:
    """What meta.json says about a column: latent statistics per channel, score moments and quantiles."""
    if name == "mean":
        total, square, count = np.zeros(column.shape[-1]), np.zeros(column.shape[-1]), 0
        # in pieces: the column may be larger than memory
        for start in range(0, len(column), 1024):
            flat = column[start : start + 1024].reshape(-1, column.shape[-1]).astype(np.float64)
            total, square, count = total + flat.sum(0), square + (flat**2).sum(0), count + len(flat)
        mean = total / count
        std = np.sqrt(np.maximum(square / count - mean**2, 1e-12))
        return {
            "latent_len": column.shape[1],
            "latent_dim": column.shape[2],
            "latent_mean": mean.tolist(),
            "latent_std": std.tolist(),
        }
    if name == "score":
        quantiles = (0.01, 0.1, 0.5, 0.9, 0.99)
        return {
            "score_mean": float(column.mean(dtype=np.float64)),
            "score_std": float(column.std(dtype=np.float64)),
            "score_quantiles": {str(q): float(np.quantile(column.astype(np.float64), q)) for q in quantiles},
        }
    return {}
