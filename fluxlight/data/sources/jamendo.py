"""MTG-Jamendo as it is published: ``autotagging.tsv`` and its folders of mp3 files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from fluxlight.clips.found import LeftAside
from fluxlight.data.sources.files import AudioFiles
from fluxlight.tables import BadTable, read_prompt_rows, read_tagged_rows


class Jamendo(AudioFiles):
    """Tracks of MTG-Jamendo, each under a caption of yours or under its own tags.

    A row's id is the track's path without suffix, ``14/214``. Tags are words behind ``---``: ``genre---rock`` and
    ``instrument---electricguitar`` make the caption "rock, electricguitar" (our choice).

    Args:
        table: ``autotagging.tsv`` (TRACK_ID, ARTIST_ID, ALBUM_ID, PATH, DURATION, TAGS; the tags fill the rest of a
            line), or one of its subsets or splits.
        captions: list of prompts whose ids are paths (with suffix or without) or track ids (``track_0000214``); tracks
            it lacks are not taken, and captions of no track are counted in a warning. Null: the tags.
        suffix: of the files in place of the table's ``.mp3``: ``_instrumental.mp3``, ``.low.mp3``.
        **settings: of `AudioFiles`.
    """

    def __init__(self, table: str, captions: str | None = None, suffix: str = ".mp3", **settings: Any) -> None:
        super().__init__(**settings)
        self.suffix = suffix
        said = None if captions is None else {_stem(row.id): row for row in read_prompt_rows(captions, "captions")}
        rows, used = [], set[str]()
        for tagged in read_tagged_rows(table):
            stem = _stem(tagged.path)
            caption = ", ".join(tag.rpartition("---")[2] for tag in tagged.tags)
            if said is not None:
                name = next((name for name in (stem, _stem(tagged.track)) if name in said), None)
                if name is None:
                    continue
                used.add(name)
                caption = said[name].prompt
            rows.append((stem + suffix, {"id": stem, "caption": caption}))
        if said is not None and (lost := [row for name, row in said.items() if name not in used]):
            what = f"id {lost[0].id!r} is no track of {table}"
            if not used:
                how = "none is: give ids such as 14/214 or track_0000214"
                raise BadTable(f"captions {captions}", lost[0].line, f"{what}, {how}")
            # a split of the table beside captions of the whole
            warnings.warn(LeftAside(f"{len(lost)} of {len(said)} captions were not used ({what})"), stacklevel=2)
        self.set_tracks(rows)

    @property
    def recipe(self) -> dict[str, Any]:
        """How files become clips."""
        return {**super().recipe, "file_suffix": self.suffix}


def _stem(path: str) -> str:
    """``14/214.mp3`` and ``14/214`` are one track."""
    return path.removesuffix(Path(path).suffix) if Path(path).suffix.lower() in (".mp3", ".wav", ".flac") else path
