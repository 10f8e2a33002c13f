"""Files: atomic writes, JSON lines, checksums, YAML that builds on other YAML, and the one configured cache folder."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fluxlight.files.claims import BEGINNING, HALF
from fluxlight.files.claims import claim as claim
from fluxlight.files.claims import claimed as claimed
from fluxlight.files.layered import lay_over as lay_over
from fluxlight.files.layered import parse_yaml as parse_yaml
from fluxlight.files.layered import read_yaml as read_yaml


def cache_folder() -> Path:
    """The one folder outside the run folder that fluxlight writes to.

    ``FLUXLIGHT_CACHE`` if set, else ``$XDG_CACHE_HOME/fluxlight`` or ``~/.cache/fluxlight``. Created on first use.
    """
    chosen = os.environ.get("FLUXLIGHT_CACHE")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fluxlight"
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = (
            f"cache folder {base} cannot be made ({error.strerror}): set FLUXLIGHT_CACHE to a folder you may write"
        )
        raise OSError(message) from None
    return base


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, no more of the user's share, or none for so large a file."""
NOTHING = 1 << 16
"""Bytes below which a disk is full."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well and vanishes when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # a name may be as long as names can be: of ours only its beginning and a usual ending fit beside it
    ending = path.suffix if len(path.suffix) <= 12 else ""
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:BEGINNING]}.{HALF}", suffix=ending, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp, and some writers after it, make 0600 files; a result is as readable as any other file of the user
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in FULL:
            # what was to be written, not the temporary file that a library chose
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    except Exception:
        # writers in C++ and Rust have words of their own for a full disk
        if shutil.disk_usage(path.parent).free < NOTHING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def put_link(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Let ``path`` be the file ``source`` is, atomically: by a hard link, or by a copy where there are none."""
    with atomic_path(path) as temporary:
        try:
            temporary.unlink()
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def longest_name(folder: str | os.PathLike[str]) -> int:
    """Bytes of the longest file name that the disk of ``folder``, which may yet have to be made, takes."""
    there = Path(folder).absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        return os.pathconf(there, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # not asked on Windows
        return 255


def write_text(path: str | os.PathLike[str], text: str) -> None:
    r"""Write ``text`` (UTF-8) atomically; what is no UTF-8 in a file name becomes ``\udcxx``, which JSON reads back."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys, atomically; a number that is not finite becomes null."""
    write_text(path, _json(value, indent=1) + "\n")


def _json(value: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except ValueError:  # JSON has no word for infinity and NaN; other readers refuse Python's
        return json.dumps(_finite(value), indent=indent, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read JSON; a broken file is one clear error that names it."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return json.loads(text, object_pairs_hook=_once)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON (line {error.lineno}): mend it there; what fluxlight wrote it can write again"
        ) from None
    except KeyError as error:
        raise ValueError(f"{path}: {error.args[0]} stands twice in one object: keep one of the two") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of a key that stands twice JSON would keep the last and say nothing."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise KeyError(next(name for name in names if names.count(name) > 1))
    return found


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per line, atomically."""
    write_text(path, "".join(_json(row) + "\n" for row in rows))


def append_jsonl(path: str | os.PathLike[str], rows: Iterable[dict[str, Any]]) -> None:
    """Append rows in one write, so that those of several processes never mix, and flush them to disk."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    left = "".join(_json(row) + "\n" for row in rows).encode("utf-8", errors="backslashreplace")
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        while left:  # the system may take less than all where the disk is nearly full
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read rows; a last line that a kill cut short is dropped, any other broken line is an error."""
    path = Path(path)
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    # bytes: a kill may cut a line within a letter
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number == len(lines):
                break
            raise ValueError(f"{path} line {number} is not valid JSON in UTF-8: mend the line") from None
        if not isinstance(rows[-1], dict):
            raise ValueError(f"{path} line {number} is no object: write one {{...}} a line")
    return rows


def mend_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read rows and cut off a half-written last line, so that appending may go on."""
    rows = read_jsonl(path)
    if Path(path).exists() and not Path(path).read_bytes().endswith(b"\n"):
        write_jsonl(path, rows)
    return rows


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def content(path: str | os.PathLike[str], whole: int = 1 << 28, pieces: int = 256) -> str:
    """Checksum of a file's content; of more than ``whole`` bytes, that of the size and of ``pieces`` samples of 1 MiB.

    A store of the published size has tens of gigabytes, which no start of a run can read.
    """
    size, piece = os.path.getsize(path), 1 << 20
    if size <= whole:
        return sha256(path)
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for number in range(pieces):
            file.seek((size - piece) * number // (pieces - 1))
            digest.update(file.read(piece))
    return digest.hexdigest()


def hash_of(value: Any) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a JSON-able value: the name of a configuration."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def some_names(names: Sequence[str], most: int = 100) -> str:
    """The first ``most`` names as one text, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def no_double(names: Sequence[str], what: str) -> None:
    """Refuse a name that is given twice: a table of names would keep the last one and say nothing."""
    if twice := [name for k, name in enumerate(names) if name in names[:k]]:
        raise ValueError(f"{what} {', '.join(dict.fromkeys(twice))} is given twice: keep one, or name the other anew")
