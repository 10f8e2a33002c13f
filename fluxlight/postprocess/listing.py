"""What is to be post-processed: the audio below a folder, and whether the folder of the results is free for it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from fluxlight.clips.found import LeftAside, find_audio
from fluxlight.files import some_names

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")


def output_of(file: str) -> str:
    """Name of the result of a file, both below their folders."""
    return str(Path(file).with_suffix(".wav"))


def list_files(source: Path, out: Path) -> list[str]:
    """The audio files below ``source``, sorted; links that lead nowhere are among them, and fail one by one.

    Raises:
        ValueError: ``out`` lies in ``source``, or two files would have one result.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is no folder: give a folder of audio files")
    if out.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{out} lies in {source}: the next run would take the results for sources, choose another OUT")
    found = find_audio(source, SUFFIXES)
    files = sorted([*(str(p.relative_to(source)) for p in found.files), *found.dangling])
    if found.aside:
        warnings.warn(LeftAside(f"{source}: left aside: {found.said()}"), stacklevel=4)
    if not files:
        raise FileNotFoundError(f"{source} holds no audio ({', '.join(SUFFIXES)})")
    stems: dict[str, str] = {}
    for file in files:
        other = stems.setdefault(output_of(file), file)
        if other != file:
            raise ValueError(f"{other} and {file} in {source} would both become {output_of(file)}: rename one")
    return files


def check_out(source: Path, out: Path, files: Sequence[str], begun: bool) -> None:
    """Refuse a folder with audio of something else: its clips and the new ones would count as one system.

    Args:
        source: folder of the audio; it may lie in ``out``.
        out: folder of the results.
        files: what is to be processed.
        begun: an earlier call wrote there; else nothing in it is a result.
    """
    if not out.is_dir():
        return
    own = source.resolve()
    found = [path for path in find_audio(out, SUFFIXES).files if not path.resolve().is_relative_to(own)]
    there = [path.relative_to(out).as_posix() for path in found]
    wanted = {Path(output_of(file)).as_posix() for file in files} if begun else set()
    if strange := [name for name in there if name not in wanted]:
        raise ValueError(
            f"{out} holds {len(strange)} clips that do not come from this input ({some_names(strange, 5)}): "
            "choose another OUT, or remove them"
        )


def clear(out: Path, files: Iterable[str]) -> None:
    """Remove results that are out of date, so that a file that fails now leaves none of an earlier input or recipe."""
    for file in files:
        (out / output_of(file)).unlink(missing_ok=True)
