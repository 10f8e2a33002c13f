"""MeanAudio's segment table: which part of which file is a clip."""

from __future__ import annotations

from typing import Any

from fluxlight.data.rows import digest
from fluxlight.data.sources.base import LeftOut, Row, Track
from fluxlight.data.sources.files import AudioFiles
from fluxlight.tables import BadTable, read_prompt_rows, read_segment_rows


class SegmentTable(AudioFiles):
    """Clips by a TSV ``id name start_sample end_sample`` (FACTS section 8), each under its own or its file's caption.

    Args:
        table: the segments.
        captions: list of prompts whose ids are those of the segments, or the names of their files.
        folder: of ``<name><suffix>`` files.
        suffix: of the files.
        rate: Hz at which the table counts samples; null: at that of each file.
        sample_rate, seconds, shortest: of `AudioFiles`; a segment longer than ``seconds`` is cut, a shorter one padded.
    """

    def __init__(
        self, table: str, captions: str, folder: str, suffix: str = ".wav", rate: int | None = None,
        sample_rate: int = 44_100, seconds: float = 10.0, shortest: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(folder, sample_rate=sample_rate, seconds=seconds, shortest=shortest)
        self.suffix, self.rate = suffix, rate
        said = {row.id: row.prompt for row in read_prompt_rows(captions, "captions")}
        rows: list[tuple[str, Row]] = []
        for part in read_segment_rows(table):
            caption = said.get(part.id, said.get(part.name))
            if caption is None:
                raise BadTable(
                    f"segment table {table}", part.line,
                    f"neither {part.id!r} nor {part.name!r} has a caption in {captions}: add one, or take the row out",
                )  # fmt: skip
            path = part.name if part.name.lower().endswith(suffix.lower()) else part.name + suffix
            rows.append((path, {"id": part.id, "caption": caption, "samples": [part.start, part.stop]}))
        self.set_tracks(rows)

    @property
    def at_once(self) -> float:
        """Segments of a file, on average."""
        return max(1.0, len(self.rows) / max(1, len(self.tracks)))

    @property
    def recipe(self) -> dict[str, Any]:
        """How files become clips."""
        return {**super().recipe, "file_suffix": self.suffix, "rate": self.rate}

    def clips(self, track: Track) -> list[tuple[Row, bytes | LeftOut]]:
        """A row a segment with where it begins and ends in seconds."""
        path, head = self._opened(track)
        size = path.stat().st_size
        found: list[tuple[Row, bytes | LeftOut]] = []
        for row in track.rows:
            start, stop = (sample / (self.rate or head.sample_rate) for sample in row["samples"])
            made = {"id": row["id"], "caption": row["caption"], "path": track.path, "start": start, "stop": stop}
            if head.seconds is not None and start >= head.seconds:
                said = f"audio {path} has {head.seconds:.2f} s, segment {row['id']!r} begins at {start:.2f}"
                how = "mend the table, or give the rate at which it counts by source.rate"
                found.append((made, LeftOut("beyond the end", f"{said}: {how}")))
                continue
            found.append((made, digest(made["id"], made["caption"], track.path, start, stop, size)))
        return found
