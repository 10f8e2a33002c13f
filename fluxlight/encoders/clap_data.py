"""Training data of an embedded CLAP: front-end features and several wordings of each clip, computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fluxlight.encoders.base import TextAudioModel, pad
from fluxlight.encoders.front_end import FrontEnd
from fluxlight.files import atomic_path, cache_folder, hash_of
from fluxlight.progress import track


@dataclass
class ClapBatch:
    """Matched clips and texts.

    Attributes:
        audio: front-end features ``(B, bands, frames)``.
        text: padded text features ``(B, T, E)``.
        lengths: text tokens ``(B,)``.
    """

    audio: Tensor
    text: Tensor
    lengths: Tensor


@dataclass
class ClapRows:
    """Features of one split.

    Attributes:
        audio: ``(n, bands, frames)`` float16, memory-mapped.
        text: all text features one after another, ``(sum of lengths, E)`` float16.
        offsets: where text ``row * wordings + wording`` begins, ``(n * wordings + 1,)``.
        wordings: texts per clip.
    """

    audio: np.ndarray
    text: np.ndarray
    offsets: np.ndarray
    wordings: int

    def texts(self, rows: np.ndarray, wording: np.ndarray) -> tuple[Tensor, Tensor]:
        """Padded text features ``(B, T, E)`` and lengths of one wording of each row."""
        which = rows * self.wordings + wording
        return pad(
            [torch.from_numpy(self.text[self.offsets[k] : self.offsets[k + 1]].astype(np.float32)) for k in which]
        )


@dataclass
class Augment:
    """Changes of a training clip that its caption survives (strengths: our choice).

    Attributes:
        crop: frames kept, as a share of the clip.
        offset: standard deviation of a change of the whole clip's features (level inside the floor).
        tilt: standard deviation of a smooth change along the bands (equalisation).
        noise: greatest standard deviation of independent noise.
        bands: greatest share of bands hidden by a mask; ``times`` the same for frames.
    """

    crop: float = 0.65
    offset: float = 0.15
    tilt: float = 0.2
    noise: float = 0.3
    bands: float = 0.15
    times: float = 0.15

    def __call__(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Standardised features ``(B, bands, frames)`` -> ``(B, bands, crop * frames)``."""
        count, bands, frames = audio.shape
        keep = max(1, round(frames * self.crop))
        start = rng.integers(0, frames - keep + 1, count)
        out = np.stack([clip[:, s : s + keep] for clip, s in zip(audio, start, strict=True)]).astype(np.float32)
        ramp = np.linspace(-1, 1, bands, dtype=np.float32)
        shape = rng.normal(size=(count, 3)).astype(np.float32) * [self.offset, self.tilt, self.tilt / 2]
        out += (shape @ np.stack([np.ones(bands), ramp, np.cos(np.pi * ramp)])).astype(np.float32)[:, :, None]
        level = rng.uniform(0, self.noise, (count, 1, 1)).astype(np.float32)
        out += level * rng.standard_normal(out.shape, dtype=np.float32)
        for clip in out:
            for axis, share in ((0, self.bands), (1, self.times)):
                size = clip.shape[axis]
                width = int(rng.uniform(0, share) * size)
                begin = int(rng.integers(0, size - width + 1))
                clip[(slice(None),) * axis + (slice(begin, begin + width),)] = 0.0
        return out


class ClapData(L.LightningDataModule):
    """Clips of one corpus split with ``wordings`` texts each; validation on another split, one text each.

    The trained model's own front end and frozen text encoder make the features, so no size is written twice. They
    are cached under the cache folder and remade when corpus, front end or wordings change.

    Args:
        split: training split of the corpus.
        templates: caption templates, ``a`` or ``b``; validation uses the same group on unseen clips.
        clips: training clips; ``val_clips``: validation clips.
        wordings: texts drawn per clip, each with its own template, synonyms and dropped attributes.
        batch_size: clips per update; every other clip of the batch is a negative.
        augment: what training clips go through; None = the defaults of `Augment`.
        seed: of the wordings, the order and the augmentation.
        source: ``(split, clips, templates, wordings, seed) -> (key, texts per clip, audio blocks)``;
            None = the rendered corpus.
    """

    def __init__(
        self,
        split: str,
        templates: Literal["a", "b"],
        val_split: str = "judge_val",
        clips: int = 2000,
        val_clips: int = 300,
        wordings: int = 8,
        batch_size: int = 128,
        augment: Augment | None = None,
        seed: int = 0,
        source: Callable[[str, int, str, int, int], Source] | None = None,
    ) -> None:
        super().__init__()
        self.split, self.val_split, self.templates = split, val_split, templates
        self.clips, self.val_clips, self.wordings, self.batch_size = clips, val_clips, wordings, batch_size
        self.augment, self.seed, self.source = augment or Augment(), seed, source or corpus_source
        self.train_rows: ClapRows | None = None
        self.val_rows: ClapRows | None = None
        self.corpus_key = ""

    def setup(self, stage: str) -> None:
        """Make or read the features with the model being trained."""
        if self.trainer is None or self.train_rows is not None:
            return
        model = self._model()
        source = self.source(self.split, self.clips, self.templates, self.wordings, self.seed)
        self.corpus_key = source.key
        self.train_rows = prepare(model, source)
        model.front_end.set_statistics(self.train_rows.audio)
        self.val_rows = prepare(model, self.source(self.val_split, self.val_clips, self.templates, 1, self.seed))

    def _model(self) -> TextAudioModel:
        stage: Any = self.trainer.lightning_module if self.trainer else None
        return stage.model

    def train_dataloader(self) -> DataLoader:
        """Batches of `ClapBatch`; the order is a pure function of (seed, epoch)."""
        assert self.train_rows is not None
        front_end: FrontEnd = self._model().front_end
        data = _Training(self.train_rows, self.augment, front_end)
        return DataLoader(data, batch_size=None, sampler=_Order(len(self.train_rows.audio), self.batch_size, self.seed))

    def val_dataloader(self) -> DataLoader:
        """Whole clips in groups of 100: recall among 100 is measured inside a group."""
        assert self.val_rows is not None
        return DataLoader(_Groups(self.val_rows), batch_size=None)


@dataclass
class Source:
    """Where clips and texts come from: a cache key, texts per clip, and a function that yields audio ``(k, N)``."""

    key: str
    texts: list[list[str]]
    audio: Callable[[], Iterator[np.ndarray]]


def corpus_source(split: str, clips: int, templates: str, wordings: int, seed: int) -> Source:
    """Clips of the rendered corpus; each wording is drawn anew from the clip's tags."""
    from fluxlight.embedded import corpus

    spec = corpus.CorpusSpec(sizes={split: clips})
    built = corpus.build(spec)
    group = {"a": corpus.TEMPLATES_A, "b": corpus.TEMPLATES_B, "held_out": corpus.TEMPLATES_HELD_OUT}[templates]
    texts = []
    for row in built.rows(split):
        rng = np.random.default_rng([seed, row.seed, row.index])
        texts.append([corpus.write_caption(row.tags, rng, group)[0] for _ in range(wordings)])
    shards = built.audio(split)

    def audio() -> Iterator[np.ndarray]:
        for start in range(0, clips, 16):
            yield np.asarray(shards[start : min(start + 16, clips)], dtype=np.float32)

    return Source(f"{spec.hash}-{split}-{clips}", texts, audio)


def prepare(model: TextAudioModel, source: Source, folder: Path | None = None) -> ClapRows:
    """Features of a source: read from the cache, or computed and kept there."""
    texts = [text for clip in source.texts for text in clip]
    key = hash_of([source.key, model.name, model.front_end.describe(), texts])
    folder = folder or cache_folder() / "clap" / f"{source.key}-{key}"
    if not (folder / "offsets.npy").is_file():  # written last
        features = [
            feature
            for start in range(0, len(texts), 256)
            for feature in model.text_features(texts[start : start + 256])
        ]
        total = -(-len(source.texts) // 16)
        blocks = track(source.audio(), f"{model.name} features", total, "batch")
        with torch.no_grad():
            audio = np.concatenate([model.front_end(torch.from_numpy(block)).half().numpy() for block in blocks])
        offsets = np.cumsum([0] + [len(feature) for feature in features])
        for name, value in (("audio", audio), ("text", torch.cat(features).half().numpy()), ("offsets", offsets)):
            with atomic_path(folder / f"{name}.npy") as temporary:
                np.save(temporary, value)
    audio, text, offsets = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("audio", "text", "offsets"))
    return ClapRows(audio, text, offsets, len(source.texts[0]))


class _Order(Sampler[tuple[int, np.ndarray]]):
    """Batches of row numbers with their epoch and step; the last, short batch is dropped."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed, self.epoch = count, min(batch_size, count), seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count // self.batch_size

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.count)
        for step in range(len(self)):
            yield int(rng.integers(2**62)), order[step * self.batch_size : (step + 1) * self.batch_size]


class _Training(Dataset):
    def __init__(self, rows: ClapRows, augment: Augment, front_end: FrontEnd) -> None:
        self.rows, self.augment, self.front_end = rows, augment, front_end

    def __getitem__(self, item: tuple[int, np.ndarray]) -> ClapBatch:
        seed, index = item
        rng = np.random.default_rng(seed)
        mean, std = (value.cpu().numpy()[:, None] for value in (self.front_end.mean, self.front_end.std))
        clips = (self.rows.audio[np.sort(index)].astype(np.float32) - mean) / std
        clips = self.augment(clips, rng) * std + mean
        text, lengths = self.rows.texts(np.sort(index), rng.integers(0, self.rows.wordings, len(index)))
        return ClapBatch(torch.from_numpy(clips), text, lengths)


class _Groups(Dataset):
    def __init__(self, rows: ClapRows, size: int = 100) -> None:
        self.rows, self.size = rows, size

    def __len__(self) -> int:
        return -(-len(self.rows.audio) // self.size)

    def __getitem__(self, group: int) -> ClapBatch:
        index = np.arange(len(self.rows.audio))[group * self.size : (group + 1) * self.size]
        if not len(index):
            raise IndexError(group)
        text, lengths = self.rows.texts(index, np.zeros(len(index), dtype=int))
        return ClapBatch(torch.from_numpy(self.rows.audio[index].astype(np.float32)), text, lengths)
