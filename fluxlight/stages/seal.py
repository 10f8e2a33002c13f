"""Seal: the checksum of a checkpoint inside its own file, as the comment of the zip that PyTorch writes.

PyTorch keeps a CRC of every tensor and does not look at it when it loads; the space between tensors has none.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

MARK = b"fluxlight sha256 "
LENGTH = len(MARK) + 64
PREVIOUS = "previous.ckpt"
"""Name of the checkpoint before the last one, beside it."""


def seal(path: str | os.PathLike[str]) -> None:
    """Add the SHA-256 of a file of ``torch.save`` to it; PyTorch reads it as before."""
    with open(path, "r+b") as file:
        # the last two bytes of a zip without a comment are the length of its comment
        file.seek(-2, os.SEEK_END)
        if file.read(2) != b"\0\0":
            raise ValueError(f"{path} is no file of torch.save, or has a seal")
        file.seek(-2, os.SEEK_END)
        file.write(LENGTH.to_bytes(2, "little"))
        file.flush()
        digest = _digest(Path(path), os.path.getsize(path))
        file.seek(0, os.SEEK_END)
        file.write(MARK + digest)
        file.flush()
        # on the disk before its name is: a machine that loses power keeps the one before
        os.fsync(file.fileno())


def whole(path: str | os.PathLike[str]) -> bool:
    """True when a file is as it was written: by its seal, or by the CRCs of one that has none."""
    try:
        with zipfile.ZipFile(path) as parts:
            comment = parts.comment
            if not comment:
                return parts.testzip() is None
    except (OSError, zipfile.BadZipFile, ValueError):
        return False
    return comment == MARK + _digest(Path(path), os.path.getsize(path) - LENGTH)


def _digest(path: Path, size: int) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(size, 1 << 20))):
            digest.update(block)
            size -= len(block)
    return digest.hexdigest().encode()
