"""Audio files with a table of captions: finding them, judging their headers, cutting clips out of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fluxlight.clips.read import Head, Piece, read_head, read_windows
from fluxlight.data.rows import digest
from fluxlight.data.sources.base import LeftOut, Row, Source, Track, as_clip
from fluxlight.files import kinds
from fluxlight.tables import same

LOWEST = 16_000
"""Hz below which a file is refused: most of the range of music is missing (our choice)."""


class AudioFiles(Source):
    """Clips of audio files: mono means of ``seconds``, each with its peak at 0.95.

    A file gives one clip, from ``start`` on; with ``hop`` it gives one every ``hop`` seconds as long as it lies wholly
    within the file. A file that is shorter than a clip gives one that is padded with silence behind, or none where it
    has less than ``shortest`` seconds.

    Args:
        folder: of the files; null for a list of prompts without audio.
        sample_rate: Hz to resample to.
        seconds: length of a clip.
        start: second of a file where its first clip begins.
        end: second where its last clip ends at the latest; null: the end of the file.
        hop: seconds from the beginning of a clip to that of the next; null: one clip a file.
        most: clips of one file at most, spread evenly over those that ``hop`` gives (published: 10, FACTS section 8).
        shortest: seconds of sound that a clip must have, the rest is silence (published: 5).
        tracks: what subclasses read from their table.
    """

    alone = True

    def __init__(
        self, folder: str | None = None, sample_rate: int = 44_100, seconds: float = 10.0, start: float = 0.0,
        end: float | None = None, hop: float | None = None, most: int | None = None, shortest: float = 0.0,
    ) -> None:  # fmt: skip
        for name, value, least in (
            ("sample_rate", sample_rate, 1), ("seconds", seconds, 1e-3), ("start", start, 0), ("shortest", shortest, 0),
            ("hop", 1 if hop is None else hop, 1e-3), ("most", 1 if most is None else most, 1),
            ("end", start + seconds if end is None else end, start + 1e-3),
        ):  # fmt: skip
            if not least <= value < float("inf"):
                raise ValueError(f"source.{name} is {value}: give at least {least:g}")
        if most is not None and hop is None:
            raise ValueError(f"source.most is {most}, but without source.hop a file gives one clip: give a hop")
        self.folder = Path(folder) if folder else None
        if self.folder is not None and not self.folder.is_dir():
            raise FileNotFoundError(f"source.folder {folder} is no folder: give the one that holds the audio")
        self.sample_rate, self.seconds, self.start, self.end = sample_rate, seconds, start, end
        self.hop, self.most, self.shortest, self.samples = hop, most, shortest, round(seconds * sample_rate)
        self._tracks: list[Track] = []

    def set_tracks(self, rows: Sequence[tuple[str, Row]]) -> None:
        """Make tracks of (path, row) pairs: the rows of one file together, files in the order they are first named."""
        found: dict[str, list[Row]] = {}
        for path, row in rows:
            found.setdefault(path, []).append(row)
        self._tracks = [Track(number, path, tuple(own)) for number, (path, own) in enumerate(found.items())]

    @property
    def recipe(self) -> dict[str, Any]:
        """How files become clips: folder, length, rate and cuts."""
        names = ("sample_rate", "samples", "start", "end", "hop", "most", "shortest")
        place = str(self.folder.resolve()) if self.folder else None
        return {"source": type(self).__name__, "folder": place, **{name: getattr(self, name) for name in names}}

    @property
    def tracks(self) -> list[Track]:
        """The files of the table."""
        return self._tracks

    @property
    def rows(self) -> list[Row]:
        """Rows of the table, those of one file together."""
        return [row for track in self._tracks for row in track.rows]

    @property
    def at_once(self) -> float:
        """Clips of a file: as many as may be, 16 where that is not known (our choice: a song of 160 s)."""
        return 1 if self.hop is None else self.most or 16

    def __getstate__(self) -> dict[str, Any]:
        # who reads is told what to read; the table stays where it is
        return {**self.__dict__, "_tracks": []}

    def audio(self, start: int, stop: int) -> Tensor:
        """Clips of the rows, one each, from ``start`` on."""
        found = [clip for track in self._tracks for at, clip in self.read(track, track.rows) for _ in at][start:stop]
        for clip in found:
            if isinstance(clip, LeftOut):
                raise clip
        return torch.stack([clip for clip in found if isinstance(clip, Tensor)])

    def clips(self, track: Track) -> list[tuple[Row, bytes | LeftOut]]:
        """Rows of the store with where they begin; the file's header is read, its samples are not."""
        path, head = self._opened(track)
        size = path.stat().st_size
        found: list[tuple[Row, bytes | LeftOut]] = []
        for number, begin in enumerate(self.begins(path, head)):
            for row in track.rows:
                made = {**row, "path": track.path}
                if self.hop is not None:
                    made |= {"id": f"{row['id']}_{number}", "start": begin}
                found.append((made, digest(made["id"], made["caption"], track.path, begin, size)))
        return found

    def begins(self, path: Path, head: Head) -> list[float]:
        """Seconds where the clips of a file begin."""
        if head.seconds is None:
            if self.hop is None:
                return [self.start]
            raise LeftOut("no length", f"audio {path} states no length, so it cannot be cut: convert it")
        end = head.seconds if self.end is None else min(self.end, head.seconds)
        room = end - self.start
        if room < max(self.shortest, 1e-3):
            if head.seconds < 1e-3:
                raise LeftOut("empty", f"audio {path} holds no samples: put the right file there")
            why = f"audio {path} has {head.seconds:.2f} s: from {self.start:g} s on that is less than {self.shortest:g}"
            raise LeftOut("too short", why, by_rule=self.shortest > 0)
        if self.hop is None:
            return [self.start]
        # rounding of a header is no reason to lose a clip
        count = 1 + max(0, int((room - self.seconds + 1e-6) // self.hop))
        places = np.arange(count) * self.hop
        if self.most is not None and count > self.most:
            places = np.linspace(0, places[-1], self.most)
        return [round(self.start + float(place), 6) for place in places]

    def read(self, track: Track, rows: Sequence[Row]) -> Iterator[tuple[list[int], Tensor | LeftOut]]:
        """Audio of clips of one file, which is decoded once; rows that differ in their caption alone share a clip."""
        spans: dict[tuple[float, float], list[int]] = {}
        for number, row in enumerate(rows):
            spans.setdefault(self._span(row), []).append(number)
        todo = sorted(spans)
        try:
            path, head = self._opened(track)
        except LeftOut as why:
            yield list(range(len(rows))), why
            return
        try:
            pieces = read_windows(path, [begin for begin, _ in todo], self.seconds, self.sample_rate)
            for piece in pieces:
                begin, length = todo[0]
                wave = piece.wave[: round(length * self.sample_rate)]
                yield spans[todo.pop(0)], self._clip(path, head, begin, Piece(wave, piece.fault))
        except ValueError as error:
            said = f"audio {path} is missing or damaged ({error}): put the right file there, or take its line out"
            yield from ((spans[span], LeftOut("unreadable", said)) for span in todo)

    def _span(self, row: Row) -> tuple[float, float]:
        """Where a clip begins, and how much of it is heard, in seconds."""
        begin = float(row.get("start", self.start))
        stop = float(row.get("stop", begin + self.seconds if self.end is None else self.end))
        return begin, min(stop - begin, self.seconds)

    def _clip(self, path: Path, head: Head, begin: float, heard: Piece) -> Tensor | LeftOut:
        piece = heard.wave
        part = f"audio {path}, from {begin:g} s on,"
        if len(piece) < self.shortest * self.sample_rate:
            said = f"{part} has {len(piece) / self.sample_rate:.2f} s, less than {self.shortest:g}"
            return LeftOut("too short", said, by_rule=True)
        if heard.fault:
            said = f"{part} cannot be heard: {heard.fault}: turn one of them round, or take its line out of the table"
            return LeftOut("channels cancel", said)
        try:
            # of a long file a silent part is left out; where there is one clip a file, its line is to be mended
            return as_clip(piece, self.samples, part, by_rule=self.hop is not None)
        except LeftOut as why:
            longer = head.seconds is not None and head.seconds > begin + self.seconds
            part_heard = f" (only {self.seconds:g} s of its {head.seconds:.1f} s were heard)" if longer else ""
            how = "hear another part by source.start, or take" if longer else "take"
            return LeftOut(why.kind, f"{why}{part_heard}: {how} its line out of the table", why.by_rule)

    def _opened(self, track: Track) -> tuple[Path, Head]:
        """Where the file of a track is and what its header says."""
        if self.folder is None:
            raise ValueError("the source has captions only: give source.folder, or encode with --text_only true")
        if ".." in Path(track.path).parts:
            raise LeftOut("outside", f"audio {track.path} leads out of {self.folder}: name a file within it")
        path = self.find(track.path)
        if not path.is_file():
            raise LeftOut("missing", f"audio {path} is missing{_instead(path)}: put it there, or take its line out")
        try:
            head = read_head(path)
        except ValueError as error:
            said = f"audio {path} is missing or damaged ({_why(path, error)})"
            raise LeftOut("unreadable", f"{said}: put the right file there, or take its line out") from None
        if head.sample_rate < min(LOWEST, self.sample_rate):
            raise LeftOut(
                "low rate", f"audio {path} is at {head.sample_rate} Hz, above {head.sample_rate // 2} Hz it holds "
                f"nothing: give it at {LOWEST} Hz or more, or take its line out",
            )  # fmt: skip
        return path, head

    def find(self, name: str) -> Path:
        """Where a file is: under its very name, or under it with its accents written otherwise."""
        assert self.folder is not None
        path = self.folder / name
        if path.is_file() or name.isascii() or not path.parent.is_dir():
            return path
        return next((p for p in sorted(path.parent.iterdir()) if same(p.name) == same(path.name)), path)


def _instead(path: Path) -> str:
    """What is there in place of a file that is not."""
    if path.is_symlink():
        return " (it is a link that leads nowhere)"
    if not path.parent.is_dir():
        return f" (there is no folder {path.parent})"
    like = [p.name for p in sorted(path.parent.iterdir()) if p.stem.lower() == path.stem.lower() and p.is_file()]
    return f" (there is {like[0]}: rename it, or give its suffix)" if like else ""


AUDIO = ("a WAV file", "a FLAC file", "an Ogg file", "an MP3 file")
"""What `files.kinds` calls a file that could be read, were it whole."""


def _why(path: Path, error: ValueError) -> str:
    """Why a file cannot be read: what it is, or what its reader says where that tells nothing."""
    with path.open("rb") as file:
        if file.read(8)[4:] == b"ftyp":
            return "it is MP4 audio, which is not read: convert it to WAV, FLAC or MP3"
    return str(error) if kinds.kind_of(path) == kinds.UNKNOWN or kinds.describe(path) in AUDIO else (
        f"it is {kinds.describe(path)}"
    )
