"""Files: atomic writes, JSON lines, checksums and the one configured cache folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout


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


def claim(folder: str | os.PathLike[str]) -> FileLock:
    """Take a run folder for this process; ``release`` gives it back, and so does the end of the process.

    Where the file system knows no locks, nothing is checked.

    Raises:
        ValueError: another run is writing there.
    """
    path = Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    # a lock object per call: two runs within one process exclude each other, too
    lock = FileLock(path, blocking=False, is_singleton=False)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"{folder} is in use by another run: wait for it, or choose another folder") from None
    except NotImplementedError:
        return lock
    _clear(path.parent)
    return lock


def _clear(folder: Path) -> None:
    """Remove the temporary files that a killed run left: the lock says that nobody writes them.

    A folder within that has a lock of its own is left to its owner.
    """
    theirs = {lock.parent for lock in folder.rglob(".lock")} - {folder}
    for path in folder.rglob(".*"):
        if theirs.intersection(path.parents):
            continue
        named = re.fullmatch(r"\.(.+)\.[a-z0-9_]{8}(\.\w+)?", path.name)
        if named and path.is_file() and Path(named[1]).suffix == (named[2] or ""):
            path.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well and vanishes when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
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
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            # what was to be written, not the temporary file that a library chose
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` (UTF-8) atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read JSON; a broken file is one clear error that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON (line {error.lineno}): remove it and run again") from None


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per line, atomically."""
    write_text(path, "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows))


def append_jsonl(path: str | os.PathLike[str], rows: Iterable[dict[str, Any]]) -> None:
    """Append rows in one write and flush them to disk."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read rows; a last line that a kill cut short is dropped, any other broken line is an error."""
    path = Path(path)
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            if number == len(lines):
                break
            raise ValueError(f"{path} line {number} is not valid JSON: remove the line or the file") from None
    return rows


def mend_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read rows and cut off a half-written last line, so that appending may go on."""
    rows = read_jsonl(path)
    if Path(path).exists() and not Path(path).read_text(encoding="utf-8").endswith("\n"):
        write_jsonl(path, rows)
    return rows


class _Yaml(yaml.SafeLoader):
    """Safe YAML in which 1e-6 is a number and a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of ``node``."""
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := [key for key in keys if keys.count(key) > 1]:
            line = next(key for key, _ in reversed(node.value) if key.value == twice[0]).start_mark.line + 1
            raise ValueError(f"line {line}: {twice[0]} stands twice: keep one of the two")
        return super().construct_mapping(node, deep)


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str, folder: str | os.PathLike[str], where: str, above: tuple[Path, ...] = ()) -> Any:
    """The value of a YAML text; a mapping with ``defaults`` is laid over the files that it names.

    Args:
        text: the YAML.
        folder: where names under ``defaults`` start from.
        where: what an error calls the text.
        above: files whose defaults this text is.

    Raises:
        ValueError: no YAML, a key twice, defaults that are missing, no mapping or in a circle; the line says where.
    """
    try:
        value = yaml.load(text, Loader=_Yaml)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        place = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{where}{place} is no valid YAML ({error.problem}): correct it") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict) or "defaults" not in value:
        return value
    names = value.pop("defaults")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{where}: defaults is {names!r}: give a list of YAML files")
    merged: Any = {}
    for name in names:
        merged = lay_over(merged, read_yaml(Path(folder) / name, f"{where}: defaults", above))
    return lay_over(merged, value)


def read_yaml(path: str | os.PathLike[str], where: str = "", above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The mapping of a YAML file, laid over those that its ``defaults`` name (relative to it, later ones on top)."""
    path, start = Path(path), f"{where}: " if where else ""
    if not path.is_file():
        raise FileNotFoundError(f"{start}{path} does not exist: give a YAML file")
    known = path.resolve()
    if known in above:
        raise ValueError(f"{start}{path} has itself among its defaults: take it out")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: convert it") from None
    value = parse_yaml(text, path.parent, str(path), (*above, known))
    if not isinstance(value, dict):
        raise ValueError(f"{path} is no configuration: a YAML mapping is expected")
    return value


def lay_over(under: Any, over: Any) -> Any:
    """``over`` on top of ``under``: mappings key by key, anything else replaces.

    A mapping of another ``class_path`` replaces too: settings of one class are none of another's.
    """
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    if "class_path" in over and over["class_path"] != under.get("class_path", over["class_path"]):
        return over
    merged = {**under, **{key: lay_over(under.get(key), value) for key, value in over.items()}}
    # a class comes before its settings, wherever it was named
    return {"class_path": merged.pop("class_path"), **merged} if "class_path" in merged else merged


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
