"""Song Describer as it is published: ``song_describer.csv``, several captions a track."""

from __future__ import annotations

from typing import Any

from fluxlight.data.sources.files import AudioFiles
from fluxlight.tables import read_listed_rows


class SongDescriber(AudioFiles):
    """Captions of the Song Describer Dataset, each with the audio of its track; a track is encoded once.

    Args:
        table: ``song_describer.csv`` (caption_id, track_id, caption, is_valid_subset, ..., path, duration).
        valid_only: take the rows of the valid subset alone (is_valid_subset is True).
        suffix: of the files in place of the table's ``.mp3``; the published audio is ``.2min.mp3``.
        **settings: of `AudioFiles`.
    """

    def __init__(
        self, table: str, valid_only: bool = False, suffix: str = ".mp3", **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.suffix, self.valid_only = suffix, valid_only
        rows = read_listed_rows(table, ("caption_id", "id"), "song describer table")
        if valid_only:
            rows = [row for row in rows if str(row.other.get("is_valid_subset", "")).strip().lower() == "true"]
            if not rows:
                raise ValueError(f"table {table} has no row with is_valid_subset True: set source.valid_only to false")
        self.set_tracks([
            (row.path.removesuffix(".mp3") + suffix, {"id": row.id, "caption": row.caption}) for row in rows
        ])

    @property
    def recipe(self) -> dict[str, Any]:
        """How files become clips."""
        return {**super().recipe, "file_suffix": self.suffix}
