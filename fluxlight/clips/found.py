"""What lies in a folder: its audio files, and what was left aside, with why. Nothing is passed over unsaid."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fluxlight.files import some_names

OTHER_AUDIO = frozenset(
    ".aac .aif .aifc .aiff .alac .ape .au .caf .m4a .m4b .mka .mp2 .mp3 .mp4 .mpc .oga .ogg .opus .ra .snd .tta .w64 "
    ".wave .webm .wma .wv".split()
)
"""Endings of audio: a file of one that a reader does not take is named, lest a clip goes missing unnoticed."""
SERVICE_FOLDERS = frozenset({
    "__macosx", "@eadir", "@recycle", "@recently-snapshot", "@sharebin", "@tmp", "#recycle", "#snapshot",
    "$recycle.bin", "recycler", "lost+found", "system volume information",
})  # fmt: skip
"""Folders that archives, network drives and systems keep for themselves, in lower case."""
HIDDEN, LINKED, OTHER = "hidden or a system's own", "linked here, and there already", "of another format"


class LeftAside(UserWarning):
    """Files that could be clips were not taken."""


@dataclass
class Found:
    """What lies in a folder.

    Attributes:
        folder: where.
        files: audio files, sorted by their path below ``folder``.
        aside: why -> names (below ``folder``) of what was not taken and may be missed.
        dangling: names of links to an audio file that is not there.
    """

    folder: Path
    files: list[Path] = field(default_factory=list)
    aside: dict[str, list[str]] = field(default_factory=dict)
    dangling: list[str] = field(default_factory=list)

    def said(self) -> str:
        """What was left aside, as one text; empty where nothing was."""
        return "; ".join(f"{len(names)} {why} ({some_names(names, 5)})" for why, names in self.aside.items())


def is_service(name: str) -> bool:
    """True for the name of a file or folder that no user made: hidden (``.Trash-0``, ``._a.wav``) or a system's own."""
    return name.startswith(".") or name.lower() in SERVICE_FOLDERS


def find_audio(folder: str | os.PathLike[str], suffixes: Sequence[str], deep: bool = True) -> Found:
    """The audio files of a folder, with those below it if ``deep``.

    Hidden files and folders, and those that systems keep (Trash, thumbnails, resource forks), are no clips. Linked
    folders are followed, each real folder once. A folder whose name ends like a clip's is a folder.
    """
    found = Found(Path(folder))
    seen = {found.folder.resolve(), *found.folder.resolve().parents}
    links = list(_visit(found, found.folder, suffixes, deep, seen))
    # real folders first: what a link leads to keeps its own name where it has one here
    while links:
        link = links.pop(0)
        if (real := link.resolve()) in seen:
            found.aside.setdefault(LINKED, []).append(_name(found, link) + "/")
            continue
        seen.add(real)
        links += _visit(found, link, suffixes, deep, seen)
    found.files.sort(key=lambda path: _name(found, path))
    return found


def _name(found: Found, path: Path) -> str:
    return path.relative_to(found.folder).as_posix()


def _visit(found: Found, here: Path, suffixes: Sequence[str], deep: bool, seen: set[Path]) -> Iterator[Path]:
    """Take what lies in ``here`` and below; the links to folders that were met."""
    for path in sorted(here.iterdir()):
        ending = path.suffix.lower()
        is_audio = ending in suffixes or ending in OTHER_AUDIO
        if path.is_dir():
            if is_service(path.name):
                if deep and _holds_audio(path, suffixes):
                    found.aside.setdefault(HIDDEN, []).append(_name(found, path) + "/")
            elif deep and path.is_symlink():
                yield path
            elif deep:
                seen.add(path.resolve())
                yield from _visit(found, path, suffixes, deep, seen)
        elif is_audio and is_service(path.name):
            found.aside.setdefault(HIDDEN, []).append(_name(found, path))
        elif ending in suffixes and path.is_symlink() and not path.exists():
            found.dangling.append(_name(found, path))
        elif ending in suffixes and path.is_file():
            found.files.append(path)
        elif is_audio:
            found.aside.setdefault(OTHER, []).append(_name(found, path))


def _holds_audio(folder: Path, suffixes: Sequence[str]) -> bool:
    return any(Path(name).suffix.lower() in suffixes for _, _, names in os.walk(folder) for name in names)
