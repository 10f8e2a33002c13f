"""Audio and tables in miniature, and the encoding of them with the models of `small_world`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from small_world import SmallClap, SmallCodec, SmallReward, SmallText

from fluxlight.data.encode import encode

RATE = 8000


def tone(seconds: float, number: int = 0, rate: int = RATE) -> np.ndarray:
    """A tone of its own with some noise."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(number).normal(size=len(time)) * 0.01
    return (0.3 * np.sin(2 * np.pi * (200 + 37 * number) * time) + noise).astype(np.float32)


def folder_of(folder: Path, count: int = 7, seconds: float = 1.0) -> Path:
    """``audio/c0.wav`` ... and ``captions.tsv``, two files a caption."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        soundfile.write(folder / f"audio/c{number}.wav", tone(seconds, number), RATE)
    table(folder, [f"c{number}" for number in range(count)])
    return folder


def table(folder: Path, ids: list[str]) -> Path:
    """The captions of some ids."""
    path = folder / "captions.tsv"
    path.write_text("id\tcaption\n" + "".join(f"{id}\ttune number {int(id[1:]) // 2}\n" for id in ids))
    return path


class Counting(SmallCodec):
    """Counts the clips it encodes; may be told to stop before one."""

    def __init__(self, stop: int | None = None) -> None:
        super().__init__()
        self.clips, self.stop = 0, stop

    def encode(self, audio: Any) -> Any:
        if self.clips == self.stop:
            raise KeyboardInterrupt
        self.clips += len(audio)
        return super().encode(audio)


def prepare(out: Path, source: Any, codec: Any = None, **settings: Any) -> int:
    """Encode a source with the small models."""
    return encode(str(out), codec or SmallCodec(), SmallText(), SmallClap(), SmallReward(), source=source, **settings)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a store but its lock."""
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and path.name != ".lock")
    return {path.name: path.read_bytes() for path in files}
