"""A store that is there: columns beside its own, and whether its files are what they were."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from fluxlight.data.columns import ColumnWriter
from fluxlight.data.store import LatentStore
from fluxlight.files import claimed, read_json, sha256, write_json
from fluxlight.tables import read_values, same


def append_column(folder: str | Path, name: str, values: np.ndarray, made: dict[str, Any]) -> None:
    """Put a number a row beside what a store has; nothing of it is written again but meta.json.

    Args:
        folder: of the store.
        name: of the column: letters, digits, ``_`` and ``-``.
        values: ``(N,)``, finite.
        made: where they are from, for meta.json.
    """
    store = LatentStore(folder)
    if not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"column name {name!r}: use letters, digits, _ and -")
    if name in store.columns:
        raise ValueError(f"store {folder} has a column {name} already: choose another name")
    if np.shape(values) != (len(store),):
        raise ValueError(f"column {name} has shape {np.shape(values)}, store {folder} has {len(store)} rows")
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"column {name} is not finite at id {store.rows[bad]['id']!r}: give every row a number")
    with claimed(folder):
        with ExitStack() as stack:
            writer = ColumnWriter(stack, store.folder, f"column.{name}", "float32")
            writer.add(np.asarray(values, dtype=np.float32))
            writer.close()
        meta = store.meta
        meta["files"] = {**meta.get("files", {}), f"column.{name}": writer.files}
        meta["columns"] = {**meta.get("columns", {}), name: made}
        write_json(store.folder / "meta.json", meta)


def append_scores(folder: str | Path, name: str, table: str | Path, column: str | None = None) -> int:
    """Append scores of a table as a column; how many rows it has.

    Args:
        folder: of the store.
        name: of the new column.
        table: scores by id (`fluxlight.tables.read_values`): every row of the store, and no other.
        column: of the table; None: ``name``.
    """
    store, wanted = LatentStore(folder), column or name
    found = {same(id): cells for id, cells in read_values(table, "scores", "id").items()}
    values = np.empty(len(store))
    for number, row in enumerate(store.rows):
        cells = found.pop(same(row["id"]), None)
        if cells is None or wanted not in cells:
            lacks = "is not in" if cells is None else f"has no {wanted} in"
            raise ValueError(f"id {row['id']!r} of store {folder} {lacks} scores {table}: add its value")
        values[number] = cells[wanted]
    if found:
        raise ValueError(f"scores {table}: id {next(iter(found))!r} is not in store {folder}: take it out")
    append_column(folder, name, values, {"table": sha256(table)[:16], "column": wanted})
    return len(store)


def verify(folder: str | Path) -> list[str]:
    """What is wrong with the files of a store, one line each; nothing where all have their checksums."""
    folder = Path(folder)
    meta = read_json(folder / "meta.json") if (folder / "meta.json").is_file() else LatentStore(folder).meta
    if "files" not in meta or "rows" not in meta["files"]:
        raise ValueError(f"store {folder} is of version 1 and has no checksums: see 'fluxlight store convert'")
    wrong = []
    for files in meta["files"].values():
        for file in files:
            path = folder / file["name"]
            if not path.is_file():
                wrong.append(f"{path} is missing: copy it again")
            elif path.stat().st_size != file["bytes"]:
                wrong.append(f"{path} has {path.stat().st_size} bytes of {file['bytes']}: copy it again")
            elif sha256(path) != file["sha256"]:
                wrong.append(f"{path} has another content than was written: copy it again")
    return wrong
