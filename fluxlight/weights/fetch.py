"""Getting one published file from its published place: resumable, checked, and in place only when whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fluxlight.files import write_text
from fluxlight.files.kinds import EMPTY, PAGE, POINTER, kind_of
from fluxlight.progress import Bar
from fluxlight.weights.catalogue import Published, Remote

_BLOCK = 1 << 20
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def fetch(entry: Published, folder: Path, timeout: float = 30.0) -> Path:
    """Fetch ``entry`` into ``folder`` and return its path; what is there and whole is left alone.

    An interrupted file stays beside its place as ``.part`` and is gone on with by the next call.

    Args:
        entry: of the catalogue.
        folder: of published files.
        timeout: seconds without an answer after which the network counts as absent.

    Raises:
        ValueError: there is no address, it is not https, or what lies in its place is seen to be another file.
        OSError: no network, an interruption, no room on the disk; the address is not found, or what it gives is not
            what is published: a page, a pointer, another size or sum. Nothing of that is kept.
    """
    if not entry.files:
        raise ValueError(f"{entry.name} has no address known with certainty: get it by hand from {entry.page}")
    target = folder / entry.name
    if not entry.holds:
        if _wanting(entry, entry.files[0], target):
            _download(entry, entry.files[0], target, timeout)
        return target
    # a folder is collected beside its place, so that no half of it is ever taken for the whole
    gathering = folder / f"{entry.name}.part"
    whole = target.exists() and not entry.lacks(target)
    for remote in entry.files:
        if not whole or (target / remote.path).exists():
            if _wanting(entry, remote, target / remote.path) and _wanting(entry, remote, gathering / remote.path):
                _download(entry, remote, gathering / remote.path, timeout)
    if not target.exists():
        gathering.rename(target)
    elif gathering.exists():
        for path in gathering.iterdir():
            os.replace(path, target / path.name)
        gathering.rmdir()
    return target


def _wanting(entry: Published, remote: Remote, path: Path) -> bool:
    """Whether a file has yet to be fetched: it is not there, or is nothing that anybody would miss."""
    if not path.exists():
        return True
    fault = remote.fault(path, remote.path or entry.name)
    if fault and kind_of(path) not in (EMPTY, POINTER, PAGE):
        raise ValueError(f"{path}: {fault}: move it away, and it is fetched")
    return fault is not None


def verify(entry: Published, target: Path) -> list[str]:
    """What is wrong with the files of ``entry`` at ``target``, one line each; a known sum is computed."""
    wrong = entry.faults(target)
    for remote in entry.files:
        path = target / remote.path if remote.path else target
        seen = any(line.startswith(f"{path}: ") for line in wrong)
        if path.is_file() and remote.checksum and not seen and not _sum(path, remote.checksum)[0]:
            wrong.append(f"{path} has another checksum than {remote.checksum}")
    return wrong


def _download(entry: Published, remote: Remote, target: Path, timeout: float) -> None:
    part, tag = target.with_name(target.name + ".part"), target.with_name(target.name + ".part.tag")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        total = _receive(entry, remote, part, tag, timeout)
    except urllib.error.HTTPError as error:
        raise OSError(_refused(entry, remote, error.code)) from None
    except (urllib.error.URLError, TimeoutError, HTTPException, ConnectionError) as error:
        raise OSError(_cut_off(entry, remote, target, part, error)) from None
    size = part.stat().st_size
    if total is not None and size < total:
        raise OSError(_cut_off(entry, remote, target, part, f"{size:,} of {total:,} bytes came"))
    fault = remote.fault(part, target.name)
    if not fault and remote.checksum:
        right, found = _sum(part, remote.checksum)
        fault = None if right else f"it has checksum {found}, {remote.checksum} is published"
    if fault is None:
        os.replace(part, target)
    else:
        part.unlink()
    tag.unlink(missing_ok=True)
    if fault:
        raise OSError(
            f"{remote.url} gave another file than the published one ({fault}), which was thrown away: fetch it again, "
            f"and if that does not help, look at {entry.page}"
        )


def _receive(entry: Published, remote: Remote, part: Path, tag: Path, timeout: float) -> int | None:
    """Bring ``part`` to its full length, as far as the answer goes; that length, where the server says it."""
    done = part.stat().st_size if part.exists() else 0
    # without a validator nobody could tell whether the rest belongs to the same file
    validator = tag.read_text(encoding="utf-8") if done and tag.exists() else ""
    request = urllib.request.Request(remote.url, headers={"User-Agent": "fluxlight", "Accept-Encoding": "identity"})
    if validator:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", validator)
    if os.environ.get("HF_TOKEN") and urlsplit(remote.url).hostname == "huggingface.co":
        # for gated repositories; not sent on to where a redirect leads
        request.add_unredirected_header("Authorization", f"Bearer {os.environ['HF_TOKEN']}")
    try:
        answer = _open(request, timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range", "") == f"bytes */{done}":
            return done  # all of it had come when the last call was ended
        if error.code != 416:
            raise
        tag.unlink()
        return _receive(entry, remote, part, tag, timeout)
    with answer:
        if answer.status == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            raise HTTPException("another range than asked for")
        done = done if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length is not None else None
        _check_room(entry, remote, part, total, done)
        write_text(tag, _validator(answer.headers))
        _copy(answer, part, done, total)
    return total


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https and to this machine only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The next request, if its address is allowed."""
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(request: urllib.request.Request, timeout: float) -> Any:
    _check_address(request.full_url)
    return urllib.request.build_opener(_SafeRedirects).open(request, timeout=timeout)


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError(f"{url} is not https: published files are fetched over https only")


def _check_room(entry: Published, remote: Remote, part: Path, total: int | None, done: int) -> None:
    if remote.size and total is not None and total != remote.size:
        raise OSError(
            f"{remote.url} offers {total:,} bytes where {remote.size:,} are published: look at {entry.page}"
        )
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - done > free:
        raise OSError(f"{part} needs {total - done:,} more bytes, the disk has {free:,}: make room")


def _validator(headers: Any) -> str:
    """What tells one version of the remote file from another; a weak ETag may not stand in If-Range."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _copy(answer: Any, part: Path, done: int, total: int | None) -> None:
    bar = Bar(part.stem, total, done, "B", scale=True)
    with bar, part.open("ab" if done else "wb") as file:
        while block := answer.read(_BLOCK):
            file.write(block)
            bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())


def _sum(path: Path, checksum: str) -> tuple[bool, str]:
    """Whether the file has the sum ``algorithm:digits``, and the one it has."""
    algorithm, _, digits = checksum.partition(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    # Demucs publishes the start of a sum only
    found = digest.hexdigest()[: len(digits)]
    return found == digits, f"{algorithm}:{found}"


def _refused(entry: Published, remote: Remote, code: int) -> str:
    if code in (401, 403):
        return (
            f"{remote.url} wants an account ({code}): accept its terms at {entry.page}, then set HF_TOKEN, "
            "or put the file there by hand"
        )
    if code >= 500:
        return f"{remote.url} answered {code}, the trouble is theirs: try again later, or look at {entry.page}"
    return f"{remote.url} answered {code}: see whether {entry.page} has moved it, and get it by hand"


def _cut_off(entry: Published, remote: Remote, target: Path, part: Path, why: object) -> str:
    why = getattr(why, "reason", None) or why or type(why).__name__
    if part.exists() and part.stat().st_size:
        return f"{target.name} was interrupted ({why}): run the same command again, it goes on from there"
    host = urlsplit(remote.url).hostname
    return f"no answer from {host} ({why}): with another machine, get {target.name} from {entry.page} to {target}"
