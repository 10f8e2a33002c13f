"""MeanAudio's features as they lie on disk: a folder of ``<row>.npz`` and a table, taken over as they are."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fluxlight.data.rows import digest
from fluxlight.data.sources.base import Features, LeftOut, Row, Source, Track
from fluxlight.tables import BadTable, read_listed_rows

LATENTS, TEXTS = ("mean", "std"), ("text_features", "text_features_c")


class NpzFolder(Source):
    """Latents and text features of ``npz/<row>.npz`` (FACTS section 8), without a codec or an encoder run over them.

    The empty and the negative text are in no such folder: they alone are computed, by the encoders given.

    Args:
        folder: of the npz files; row k of the table is ``k.npz``.
        table: with the columns id and caption, ``npz.tsv``; null: ``npz.tsv`` beside the folder.
        score: column of the score; null: none is taken over.
    """

    alone = encoded = True
    sample_rate = 44_100

    def __init__(
        self, folder: str, table: str | None = None, score: str | None = "instrumental_reward_score"
    ) -> None:
        self.folder, self.score = Path(folder), score
        if not self.folder.is_dir():
            raise FileNotFoundError(f"source.folder {folder} is no folder: give the one that holds the npz files")
        place = Path(table) if table else self.folder.parent / "npz.tsv"
        found = read_listed_rows(place, ("id",), "feature table", paths=False)
        self._tracks = []
        for number, row in enumerate(found):
            made: Row = {"id": row.id, "caption": row.caption, "path": f"{number}.npz"}
            if score is not None:
                made["score"] = _number(row.other.get(score.casefold()), score, place, row.line)
            self._tracks.append(Track(number, made["path"], (made,)))

    @property
    def recipe(self) -> dict[str, Any]:
        """Where the features are from."""
        return {"source": type(self).__name__, "folder": str(self.folder.resolve()), "score": self.score}

    @property
    def tracks(self) -> list[Track]:
        """A file a row."""
        return self._tracks

    @property
    def rows(self) -> list[Row]:
        """Rows of the table."""
        return [row for track in self._tracks for row in track.rows]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tracks": []}

    def audio(self, start: int, stop: int) -> Tensor:
        """None: what was encoded has no audio."""
        raise ValueError(f"{self.folder} holds features, no audio: there is nothing to hear")

    def clips(self, track: Track) -> list[tuple[Row, bytes | LeftOut]]:
        """The row, once its file is there and names what is needed."""
        path = self.folder / track.path
        if not path.is_file():
            raise LeftOut("missing", f"features {path} are missing: put the file there, or take its line out")
        try:
            with zipfile.ZipFile(path) as file:
                names = {name.removesuffix(".npy") for name in file.namelist()}
        except (zipfile.BadZipFile, OSError):
            raise LeftOut("unreadable", f"features {path} are no npz file: extract them again") from None
        if lacking := [name for name in (*LATENTS, *TEXTS) if name not in names]:
            raise LeftOut("unreadable", f"features {path} lack {lacking[0]}: extract them again")
        (row,) = track.rows
        return [(row, digest(row["id"], row["caption"], track.path, row.get("score"), path.stat().st_size))]

    def features(self, rows: Sequence[Row]) -> Features:
        """Latents of the files and scores of the table."""
        loaded = [self._load(row["path"], LATENTS) for row in rows]
        mean, std = (np.stack([arrays[name] for arrays in loaded]) for name in LATENTS)
        return Features(mean, std, np.array([row["score"] for row in rows]) if self.score is not None else None)

    def texts(self, rows: Sequence[Row]) -> tuple[list[np.ndarray], np.ndarray]:
        """Text features of the files."""
        loaded = [self._load(row["path"], TEXTS) for row in rows]
        return [arrays[TEXTS[0]] for arrays in loaded], np.stack([arrays[TEXTS[1]].reshape(-1) for arrays in loaded])

    def _load(self, name: str, wanted: Sequence[str]) -> dict[str, np.ndarray]:
        try:
            with np.load(self.folder / name, allow_pickle=False) as file:
                found = {key: np.asarray(file[key], dtype=np.float32) for key in wanted}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
            why = type(error).__name__
            raise LeftOut("unreadable", f"features {self.folder / name} cannot be read ({why}): extract them again") \
                from None
        for key, values in found.items():
            if not np.isfinite(values).all():
                raise LeftOut("not finite", f"features {self.folder / name}: {key} is not finite: extract them again")
        return found


def _number(value: Any, column: str, table: Path, line: int) -> float:
    try:
        number = float(value)
        if not np.isfinite(number):
            raise ValueError
    except (TypeError, ValueError):
        raise BadTable(
            f"feature table {table}", line,
            f"{column} is {value!r}: write a number, name another column by source.score, or set it to null",
        ) from None  # fmt: skip
    return number
