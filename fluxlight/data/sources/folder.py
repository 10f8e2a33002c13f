"""A folder of audio files with a table of captions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fluxlight.data.sources.files import AudioFiles
from fluxlight.tables import read_prompt_rows


class AudioFolder(AudioFiles):
    """Audio files with a table of captions (FACTS section 8: ``id<TAB>caption``).

    Args:
        captions: table with the columns id and caption, or any other list of prompts (`fluxlight.tables`).
        folder: of ``<id><suffix>`` files, where an id may hold folders and may end with the suffix, or be the name of
            a file; null for a list of prompts without audio.
        suffix: of the files.
        **settings: of `AudioFiles`.
    """

    def __init__(self, captions: str, folder: str | None = None, suffix: str = ".wav", **settings: Any) -> None:
        super().__init__(folder, **settings)
        self.captions, self.suffix = Path(captions), suffix
        # now, not when they are asked for: a table that cannot be read begins no store
        rows = read_prompt_rows(captions, "captions")
        self.set_tracks([(self._name(row.id), {"id": row.id, "caption": row.prompt}) for row in rows])

    def _name(self, id: str) -> str:
        return id if id.lower().endswith(self.suffix.lower()) else f"{id}{self.suffix}"

    def find(self, name: str) -> Path:
        """Where a file is; an id that names a file of another suffix is that file."""
        path = super().find(name)
        assert self.folder is not None
        other = self.folder / name.removesuffix(self.suffix)
        return other if not path.is_file() and other.is_file() else path

    @property
    def recipe(self) -> dict[str, Any]:
        """How files become clips."""
        return {**super().recipe, "file_suffix": self.suffix}
