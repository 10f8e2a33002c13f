"""What a file is, by its first bytes: its name may promise anything."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

HEAD = 4096
"""Bytes that are looked at (our choice: a Git LFS pointer has 130, a web page says what it is in its first lines)."""

EMPTY, POINTER, PAGE, JSON, TEXT, TORCH, SAFETENSORS, PICKLE, ZIP, SHORT_ZIP, OTHER, UNKNOWN = (
    "empty", "pointer", "page", "json", "text", "torch", "safetensors", "pickle", "zip", "short zip", "other", "unknown"
)  # fmt: skip

_SAID = {
    EMPTY: "an empty file",
    PAGE: "a web page (HTML or XML)",
    JSON: "JSON text",
    TEXT: "plain text",
    TORCH: "a PyTorch file",
    SAFETENSORS: "a safetensors file",
    PICKLE: "a pickle",
    ZIP: "a zip archive",
    SHORT_ZIP: "a zip or PyTorch file whose end is missing: it was cut short",
    UNKNOWN: "no format known here",
}

_MAGIC = (
    (b"\x1f\x8b", "a gzip archive"), (b"BZh", "a bzip2 archive"), (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"), (b"Rar!", "a RAR archive"), (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\x89HDF", "an HDF5 (Keras) file"), (b"GGUF", "a GGUF file"), (b"\x93NUMPY", "a NumPy array"),
    (b"RIFF", "a WAV file"), (b"fLaC", "a FLAC file"), (b"OggS", "an Ogg file"), (b"ID3", "an MP3 file"),
    (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"), (b"%PDF", "a PDF"), (b"\x7fELF", "a program"),
)  # fmt: skip

# what stands before the size in a pointer of Git LFS, and the target of one of git-annex
_LFS = re.compile(rb"\Aversion https?://[^\n]*(?:git-lfs|hawser)[^\n]*\n(?:[^\n]*\n)*?size (\d+)")
_ANNEX = re.compile(rb"\A(?:\.\./)*(?:/annex/objects/|\.git/annex/objects/)")
_PAGE = re.compile(
    rb"\A\s*(?:<!--.*?-->\s*|<\?xml[^>]*>\s*)*<(?:!doctype\b|[a-z][\w:-]*[\s/>])", re.IGNORECASE | re.DOTALL
)


def kind_of(path: str | os.PathLike[str]) -> str:
    """One of the kinds named above; reads `HEAD` bytes, and of a zip the list of its members."""
    return _look(Path(path))[0]


def describe(path: str | os.PathLike[str]) -> str:
    """What a file is, in a few words for a message: "a web page", "a Git LFS pointer, ..."."""
    return _look(Path(path))[1]


def _look(path: Path) -> tuple[str, str]:
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return EMPTY, _SAID[EMPTY]
    if pointed := _LFS.match(head):
        return POINTER, f"a Git LFS pointer to a file of {int(pointed[1][:18]):,} bytes (get it with git lfs pull)"
    if _ANNEX.match(head):
        return POINTER, "a git-annex pointer (get the file with git annex get)"
    if head.startswith(b"PK"):
        kind, said = _zip(path)
        return kind, said or _SAID[kind]
    if _is_safetensors(head):
        kind = SAFETENSORS
    elif head[:1] == b"\x80" and len(head) > 1 and 2 <= head[1] <= 5:
        kind = PICKLE
    elif head[257:262] == b"ustar":
        return OTHER, "a tar archive"
    elif named := next((said for magic, said in _MAGIC if head.startswith(magic)), None):
        return OTHER, named
    else:
        kind = _text(head.removeprefix(b"\xef\xbb\xbf"))
    return kind, _SAID[kind]


def _zip(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError):
        return SHORT_ZIP, ""
    if "constants.pkl" in names:
        return OTHER, "a TorchScript program"
    # torch.save puts its pickle one folder down
    return (TORCH if "data.pkl" in names else ZIP), ""


def _is_safetensors(head: bytes) -> bool:
    """Eight bytes of length, little-endian, then a JSON object of that length; the format allows 100 MB of it."""
    length = int.from_bytes(head[:8], "little")
    return 2 <= length <= 100_000_000 and re.match(rb'\{\s*["}]', head[8:]) is not None


def _text(head: bytes) -> str:
    if _PAGE.match(head):
        return PAGE
    try:
        # the last letter may be cut
        text = head.decode("utf-8") if len(head) < HEAD else head[:-3].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return UNKNOWN
    if any(letter < " " and letter not in "\t\r\n\f\v\x1b" for letter in text):
        return UNKNOWN
    return JSON if re.match(r'\s*(\{\s*["}]|\[\s*["\[{\]\d-])', text) else TEXT
