"""Training clips of the codec: random crops of log-mels with a short piece of the audio they came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fluxlight.codec.mel import Spectrum
from fluxlight.files import atomic_path, cache_folder, hash_of

FRAMES = 864
"""Frames kept of a clip: 441,000 samples padded with zeros to 864 hops of 512."""

MARGIN = 12
"""Frames of context on either side of the piece on which the vocoder is trained."""


class Crops(Dataset[dict[str, Tensor]]):
    """Draw k is a pure function of (seed, k), so a resumed run sees the same data.

    Args:
        mel: log-mels ``(N, n_mels, FRAMES)``.
        audio: int16 or float clips, ``audio[i]`` is ``(441000,)`` in [-1, 1].
        draws: length of the stream.
        frames: mel frames of a crop.
        piece: frames of which the audio is given too.
        seed: of the stream.
    """

    def __init__(self, mel: np.ndarray, audio: Any, draws: int, frames: int, piece: int, seed: int) -> None:
        self.mel, self.audio, self.draws = mel, audio, draws
        self.frames, self.piece, self.seed = frames, piece, seed
        self.spectrum = Spectrum()
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def __len__(self) -> int:
        return self.draws

    def __getitem__(self, draw: int) -> dict[str, Tensor]:
        """``mel (n_mels, frames)``, ``audio`` of ``piece + 1`` frames (one earlier first), ``start`` of the piece."""
        turn, place = divmod(draw, len(self.mel))
        if self.order[0] != turn:
            self.order = (turn, np.random.default_rng([self.seed, 0, turn]).permutation(len(self.mel)))
        clip = int(self.order[1][place])
        random = np.random.default_rng([self.seed, 1, draw])
        first = int(random.integers(FRAMES - self.frames + 1))
        hop, pad, size = self.spectrum.hop, self.spectrum.pad, self.spectrum.n_fft
        # the piece keeps off the clip's ends, where the frames would need reflected samples
        low = max(MARGIN, 3 - first)
        high = min(self.frames - self.piece - MARGIN, 441000 // hop - 4 - self.piece - first)
        start = int(random.integers(low, high + 1))
        begin = (first + start - 1) * hop - pad
        audio = as_float(self.audio[clip])[begin : begin + self.piece * hop + size]
        mel = self.mel[clip, :, first : first + self.frames].astype(np.float32)
        return {"mel": torch.from_numpy(mel), "audio": torch.from_numpy(audio), "start": torch.tensor(start)}


def as_float(clip: np.ndarray) -> np.ndarray:
    """A clip as float32 in [-1, 1]; int16 is scaled."""
    clip = np.asarray(clip).reshape(-1)
    return clip.astype(np.float32) / 32767.0 if clip.dtype == np.int16 else clip.astype(np.float32)


class CodecData(L.LightningDataModule):
    """Crops of one split of the corpus to train on and whole clips of another to test on.

    Args:
        split: split of the corpus for training, with its graded faults: the codec must carry those too.
        test_split: split for validation.
        clips: training clips.
        test_clips: validation clips.
        updates: training updates.
        batch: crops an update.
        frames: mel frames of a crop, a multiple of the codec's patch.
        piece: frames of a crop on which the vocoder is trained.
        audio: a .npy file of int16 clips ``(N, 441000)`` instead of the corpus; its last ``test_clips`` are for test.
        seed: of the crops.
    """

    def __init__(
        self,
        split: str = "judge_a",
        test_split: str = "judge_val",
        clips: int = 2000,
        test_clips: int = 100,
        updates: int = 7000,
        batch: int = 16,
        frames: int = 384,
        piece: int = 40,
        audio: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()

    def clips_of(self, split: str, count: int) -> tuple[Any, str]:
        """Clips of a split and a name for their cached mels."""
        if self.hparams["audio"] is not None:
            every = np.load(self.hparams["audio"], mmap_mode="r")
            part = every[: -self.hparams["test_clips"]] if split == self.hparams["split"] else every[-count:]
            return part[:count], hash_of([str(self.hparams["audio"]), split, count])
        from fluxlight.embedded.corpus import CorpusSpec, build

        spec = CorpusSpec(sizes={split: count})
        return build(spec).audio(split), f"{spec.hash}-{split}-{count}"

    def mels_of(self, split: str, count: int) -> tuple[np.ndarray, Any]:
        """Log-mels ``(N, n_mels, FRAMES)`` fp16, memory-mapped from the cache, and the clips."""
        clips, name = self.clips_of(split, count)
        path = cache_folder() / "codec" / f"mel-{name}.npy"
        if not path.exists():
            write_mels(clips, path)
        return np.load(path, mmap_mode="r"), clips

    def setup(self, stage: str | None = None) -> None:
        """Open (and make where missing) clips and mels."""
        self.train_mels, self.train_clips = self.mels_of(self.hparams["split"], self.hparams["clips"])
        self.test_mels, self.test_clips = self.mels_of(self.hparams["test_split"], self.hparams["test_clips"])

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """One epoch = the whole run: ``updates`` batches."""
        h = self.hparams
        crops = Crops(self.train_mels, self.train_clips, h["updates"] * h["batch"], h["frames"], h["piece"], h["seed"])
        return DataLoader(crops, batch_size=h["batch"])

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Log-mels of the whole test clips."""
        mels = torch.from_numpy(np.asarray(self.test_mels, dtype=np.float32))
        return DataLoader(mels, batch_size=20)  # type: ignore[arg-type]


def write_mels(clips: Any, path: Path) -> None:
    """Log-mels of all clips as one fp16 .npy, atomically."""
    spectrum = Spectrum()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, torch.no_grad():
        shape = (len(clips), spectrum.n_mels, FRAMES)
        out = np.lib.format.open_memmap(temporary, "w+", np.float16, shape)
        for index in range(len(clips)):
            audio = torch.from_numpy(as_float(clips[index]))[None]
            audio = torch.nn.functional.pad(audio, (0, FRAMES * spectrum.hop - audio.shape[1]))
            out[index] = spectrum.mel(audio)[0].numpy()
        out.flush()
