"""The challenge's list: JSON rows of ``{path, caption}``."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from fluxlight.data.sources.files import AudioFiles
from fluxlight.tables import read_listed_rows


class ChallengeList(AudioFiles):
    """Files named by their path, each with a caption (the track's ``jamendo_qwen.json``), in any table format.

    A row's id is its path; of a path that stands several times with other captions, ``path#2`` and so on.

    Args:
        table: list of rows with path and caption; an id beside them is taken in place of the path.
        suffix: of the files in place of the table's, for instance ``_instrumental.mp3``; null: the table's.
        **settings: of `AudioFiles`.
    """

    def __init__(self, table: str, suffix: str | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.suffix = suffix
        self.set_tracks([
            (self._path(row.path), {"id": row.id, "caption": row.caption})
            for row in read_listed_rows(table, ("id",), "challenge list")
        ])

    def _path(self, path: str) -> str:
        own = PurePosixPath(path).suffix
        return path if self.suffix is None else path.removesuffix(own) + self.suffix

    @property
    def recipe(self) -> dict[str, Any]:
        """How files become clips."""
        return {**super().recipe, "file_suffix": self.suffix}
