"""Packing: rows of a plan, wherever their latents and texts lie, into one store; and stores into one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fluxlight.data.builder import Precision, StoreBuilder, require_space
from fluxlight.data.columns import Column
from fluxlight.data.preparation.parts import CLIPS, TEXTS, Parts, runs
from fluxlight.data.preparation.plan import Plan
from fluxlight.data.rows import digest
from fluxlight.data.store import LatentStore
from fluxlight.files import claimed, read_json, write_json
from fluxlight.tables import same

Block = dict[str, np.ndarray]
Special = tuple[Sequence[np.ndarray], np.ndarray]
LATENTS = ("mean", "std", "score")


class Pieces:
    """Where the rows and texts of a store that is being made lie: in parts, or in the store that it replaces.

    Args:
        out: folder of the store.
        old: the store that is there already, if any.
    """

    def __init__(self, out: Path, old: LatentStore | None) -> None:
        self.old = old
        self.clips, self.captions = Parts.of(out / CLIPS), Parts.of(out / TEXTS)
        none = np.zeros(0, "S16")
        self._old = _sorted(old.rows.keys if old else none)
        self._old_texts = _sorted(old_texts(old) if old else none)

    def has(self, keys: np.ndarray) -> np.ndarray:
        """Which rows are there ``(N,)`` bool."""
        return (self.clips.find(keys)[0] >= 0) | (_place(self._old, keys) >= 0)

    def has_text(self, names: np.ndarray) -> np.ndarray:
        """Which texts are there ``(N,)`` bool."""
        return (self.captions.find(names)[0] >= 0) | (_place(self._old_texts, names) >= 0)

    def blocks(self, keys: np.ndarray) -> Iterator[Block]:
        """Latents and scores of rows in order, a stretch at a time."""
        file, place = self.clips.find(keys)
        kept = _place(self._old, keys)
        loaded, current = -1, dict[str, np.ndarray]()
        for start, stop in runs(file):
            if file[start] < 0:
                assert self.old is not None
                columns = {name: getattr(self.old, name) for name in LATENTS}
                yield {name: column[kept[start:stop]] for name, column in columns.items() if column is not None}
                continue
            if file[start] != loaded:
                loaded, current = int(file[start]), self.clips.load(int(file[start]))
            yield {name: current[name][place[start:stop]] for name in LATENTS if name in current}

    def column(self, name: str, keys: np.ndarray) -> np.ndarray:
        """An appended column of rows ``(N,)``; NaN for those that are new."""
        assert self.old is not None
        kept = _place(self._old, keys)
        return np.where(kept >= 0, self.old.appended(name)[kept], np.nan)

    def texts(self, names: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Tokens and global embedding of texts in order."""
        file, place = self.captions.find(names)
        kept = _place(self._old_texts, names)
        loaded, current, starts = -1, dict[str, np.ndarray](), np.zeros(1, np.int64)
        for number in range(len(names)):
            if file[number] < 0:
                assert self.old is not None
                yield text_of(self.old, int(kept[number]) + 2)
                continue
            if file[number] != loaded:
                loaded, current = int(file[number]), self.captions.load(int(file[number]))
                starts = np.concatenate([[0], np.cumsum(current["lengths"])])
            at = int(place[number])
            yield current["tokens"][starts[at] : starts[at + 1]], current["text_c"][at]


def _sorted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(keys, kind="stable")
    return keys[order], order


def _place(held: tuple[np.ndarray, np.ndarray], wanted: np.ndarray) -> np.ndarray:
    """Place of every wanted key, -1 where there is none."""
    keys, order = held
    if not len(keys):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, order[at], -1)


def old_texts(store: LatentStore) -> np.ndarray:
    """Name of every text of a store but the first two ``(texts - 2,)``, sixteen bytes."""
    names = np.zeros(max(0, len(store.text_c) - 2), "S16")
    for row, text in zip(store.rows, np.asarray(store.text_row).tolist(), strict=True):
        if text >= 2:
            names[text - 2] = digest(row["caption"])
    return names


def text_of(store: LatentStore, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens ``(n, E)`` and global embedding ``(C,)`` of a text, as they are stored."""
    start, stop = (int(end) for end in np.asarray(store.offsets[[number, number + 1]]))
    tokens = store.tokens
    return tokens.span(start, stop) if isinstance(tokens, Column) else tokens[start:stop], store.text_c[number]


def numbered(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each distinct name first stands, in that order ``(texts,)``, and each row's number among them ``(N,)``."""
    _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return np.sort(first), rank[inverse.reshape(-1)]


def pack(
    out: Path, plan: Plan, pieces: Pieces, special: Special, facts: dict[str, Any], precision: Precision,
    statistics: tuple[np.ndarray, np.ndarray] | None,
) -> int:  # fmt: skip
    """Make a store of the rows of a plan that are there; how many they are.

    Args:
        out: folder of the store.
        plan: rows in order.
        pieces: where they lie.
        special: tokens and text_c of the empty and the negative text.
        facts: of meta.json: identities, text_len, recipe.
        precision: of the store.
        statistics: see `StoreBuilder.finish`.
    """
    there = np.flatnonzero(pieces.has(plan.keys)) if plan.clips else np.arange(len(plan.lines))
    keys, names = plan.keys[there], plan.texts[there]
    first, text_row = numbered(names)
    if plan.clips:
        sample = next(pieces.blocks(keys[:1]))
        require_space(out, len(there) * sum(values.nbytes for values in sample.values()), "packing store")
    with StoreBuilder(out, precision) as builder:
        for tokens, text_c in zip(*special, strict=True):
            builder.text(tokens, text_c)
        for tokens, text_c in pieces.texts(names[first]):
            builder.text(tokens, text_c)
        if plan.clips:
            for block in pieces.blocks(keys):
                builder.clips(block["mean"], block.get("std"), block.get("score"))
        for name, made in (pieces.old.columns if pieces.old else {}).items():
            builder.extra(name, pieces.column(name, keys), made)
        rows = ((plan.row(int(number)), plan.key(int(number))) for number in there)
        builder.finish(rows, text_row + 2, facts, statistics)
    return len(there)


def join(out: str | Path, stores: Sequence[str | Path]) -> int:
    """Make one store of several that were made in the same way; how many rows it has.

    Shares of one source (``fluxlight encode --shard i/n``) are put together in their order, whatever the order they
    are given in, and give the very store that one run would have made. Others follow each other as they are given, and
    meta.json says which rows came from where.

    Args:
        out: folder of the new store.
        stores: folders.

    Raises:
        ValueError: they were made differently, a share lacks or stands twice, or two rows have one id.
    """
    out = Path(out)
    if not stores:
        raise ValueError("no store is given: name at least one")
    if (out / "meta.json").exists() or (out / "recipe.json").exists():
        raise ValueError(f"{out} holds a store already: choose another --out")
    opened = [LatentStore(folder) for folder in stores]
    recipe, opened = _agreed(opened)
    first = opened[0]
    facts = {name: first.meta[name] for name in ("identities", "text_len")} | {"recipe": recipe}
    if "share" not in first.meta["recipe"] and len(opened) > 1:
        facts["made_of"] = [{"rows": len(store), "recipe": store.meta["recipe"]} for store in opened]
    _refuse_doubles(opened)
    names = np.concatenate([_names(store) for store in opened])
    chosen, text_row = numbered(names)
    size = sum(file.stat().st_size for store in opened for file in store.folder.glob("*.npy"))
    require_space(out, 0.5 * size, "joining stores to")
    with claimed(out, make=True):
        _write(out, opened, chosen, text_row, facts)
        write_json(out / "recipe.json", recipe)
    return len(text_row)


def _write(
    out: Path, opened: Sequence[LatentStore], chosen: np.ndarray, text_row: np.ndarray, facts: dict[str, Any]
) -> None:
    """Write the rows of stores one behind the other; ``chosen`` are the rows whose text is new."""
    first, bounds = opened[0], np.cumsum([0, *(len(store) for store in opened)])
    precision: Precision = first.meta.get("precision", "float32")
    with StoreBuilder(out, precision) as builder:
        for number in (0, 1):
            builder.text(*text_of(first, number))
        for place in chosen.tolist():
            k = int(np.searchsorted(bounds, place, side="right")) - 1
            builder.text(*text_of(opened[k], int(opened[k].text_row[place - int(bounds[k])])))
        for store in opened:
            for start in range(0, len(store) if store.mean is not None else 0, 256):
                index = np.arange(start, min(start + 256, len(store)))
                block = [None if c is None else c[index] for c in (store.mean, store.std, store.score)]
                builder.clips(*block)
        rows = (
            (row, bytes(key).ljust(16, b"\0"))
            for store in opened for row, key in zip(store.rows, store.rows.keys, strict=True)
        )  # fmt: skip
        builder.finish(rows, text_row + 2, facts, _published(opened))


def _published(stores: Sequence[LatentStore]) -> tuple[np.ndarray, np.ndarray] | None:
    """Statistics that stores have alike: a codec's, or those of the only one; None: they are of each one's clips."""
    kept = [(store.meta.get("latent_mean"), store.meta.get("latent_std")) for store in stores]
    if kept[0][0] is None or any(other != kept[0] for other in kept):
        return None
    return np.array(kept[0][0]), np.array(kept[0][1])


def _refuse_doubles(stores: Sequence[LatentStore]) -> None:
    """Raise where two stores have one id: their rows hash alike, so those alone are looked at."""
    hashes = np.concatenate([store.rows.table[:, 1] for store in stores])
    found, counts = np.unique(hashes, return_counts=True)
    seen: dict[str, Path] = {}
    for store in stores if (counts > 1).any() else ():
        for number in np.flatnonzero(np.isin(store.rows.table[:, 1], found[counts > 1])).tolist():
            id = store.rows[number]["id"]
            if same(id) in seen:
                raise ValueError(
                    f"id {id!r} is in {seen[same(id)]} and in {store.folder}: give every row an id of its own"
                )
            seen[same(id)] = store.folder


def _names(store: LatentStore) -> np.ndarray:
    return np.array([digest(row["caption"]) for row in store.rows], dtype="S16")


def _agreed(stores: list[LatentStore]) -> tuple[dict[str, Any], list[LatentStore]]:
    """The recipe that stores share, and the stores in order."""
    first = stores[0]
    shares = [store.meta["recipe"].get("share") for store in stores]
    ours = ("source", "folder", "share") if not any(shares) else ("folder", "share")

    def settings(store: LatentStore) -> dict[str, Any]:
        held = {key: value for key, value in store.meta["recipe"].items() if key not in ours}
        sizes = ("text_len", "text_dim", "text_c_dim", "latent_len", "latent_dim", "has_std", "has_score", "precision")
        return held | {f"its {name}": store.meta.get(name) for name in sizes}

    for store in stores[1:]:
        one, other = settings(first), settings(store)
        if differs := sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key)):
            key = differs[0]
            raise ValueError(
                f"store {store.folder} was made with {key} = {other.get(key)!r}, {first.folder} with {one.get(key)!r}: "
                "join what was made in the same way"
            )
    recipe = {key: value for key, value in first.meta["recipe"].items() if key != "share"}
    if not any(shares):
        return recipe, stores
    wanted = [f"{i}/{str(shares[0]).partition('/')[2]}" for i in range(int(str(shares[0]).partition("/")[2] or 0))]
    if lacking := [share for share in wanted if share not in shares]:
        raise ValueError(f"share {lacking[0]} is not among the stores: encode it with --shard {lacking[0]}")
    if len(shares) > len(wanted) or len(set(shares)) < len(shares):
        raise ValueError(f"the stores hold the shares {', '.join(map(str, shares))}: give each of {wanted[-1]} once")
    return recipe, [stores[shares.index(share)] for share in wanted]


def convert(folder: str | Path, out: str | Path) -> int:
    """Write a store of an earlier version anew as one of this version; how many rows it has."""
    if read_json(Path(folder) / "meta.json").get("version") == 2:
        raise ValueError(f"store {folder} is of this version already: nothing to convert")
    return join(out, [folder])
