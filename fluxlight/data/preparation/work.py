"""The work: texts and clips through the models, a part at a time, in this process or in several."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fluxlight.codec import Codec
from fluxlight.data.builder import Precision, in_range
from fluxlight.data.preparation.parts import CLIPS, TEXTS, text_arrays, write_part
from fluxlight.data.preparation.plan import Failure, failure
from fluxlight.data.rows import digest
from fluxlight.data.sources.base import LeftOut, Row, Source, Track
from fluxlight.encoders import TextAudioModel, TextEncoder
from fluxlight.prompts import collected, worded
from fluxlight.rewards import Reward

Clip = tuple[Tensor, list[tuple[Row, bytes]]]
Rows = list[tuple[Row, bytes]]


@dataclass
class ClipTask:
    """Clips to encode: tracks, each with the rows that are wanted of it and what they are made from."""

    tracks: list[tuple[Track, Rows]]


@dataclass
class TextTask:
    """Captions to encode, each with a row that has it."""

    items: list[tuple[str, Row]]


@dataclass
class Done:
    """What a task came to."""

    clips: int
    failures: list[Failure]
    cut: set[str]


@dataclass
class Bench:
    """The models with what they are to work on.

    Attributes:
        out: folder of the store.
        source: of the clips.
        codec, text, clap, reward: the models; codec and reward may be None.
        around: text before and behind every caption.
        precision: of what is written.
        size: clips that go through the models together on a GPU, or where the source does not let them go alone.
        place: device.
    """

    out: Path
    source: Source
    codec: Codec | None
    text: TextEncoder
    clap: TextAudioModel
    reward: Reward | None
    around: tuple[str, str]
    precision: Precision
    size: int
    place: str

    @property
    def alone(self) -> bool:
        """True where a clip's bits must not depend on what is encoded beside it, nor on the number of threads."""
        return self.source.alone and self.place == "cpu"

    def to(self, place: str) -> None:
        """Move the models."""
        self.place = place
        for model in (self.codec, self.text, self.clap, self.reward):
            if model is not None:
                model.to(place)

    def do(self, task: ClipTask | TextTask) -> Done:
        """Do a task and write its part."""
        with collected() as cut, one_thread(self.alone), torch.no_grad():
            found = self._texts(task) if isinstance(task, TextTask) else self._clips(task)
        return Done(*found, cut)

    # -- texts ---------------------------------------------------------------------------------------------------

    def _texts(self, task: TextTask) -> tuple[int, list[Failure]]:
        captions, rows = [caption for caption, _ in task.items], [row for _, row in task.items]
        known = self.source.texts(rows)
        tokens, text_c = self.encode_texts(worded(captions, *self.around)) if known is None else known
        arrays = text_arrays(tokens, in_range(text_c, self.precision, "a text embedding"), self.precision)
        write_part(self.out / TEXTS, [digest(caption) for caption in captions], arrays)
        return 0, []

    def encode_texts(self, texts: Sequence[str]) -> tuple[list[np.ndarray], np.ndarray]:
        """Token features ``[(n_i, E)]`` and global embeddings ``(B, C)`` of texts, as the models read them."""
        groups = [[text] for text in texts] if self.alone else [list(texts)]
        tokens = [array(piece) for group in groups for piece in self.text.encode_ragged(group)]
        return tokens, np.concatenate([array(self.clap.embed_text(group)) for group in groups])

    # -- clips ---------------------------------------------------------------------------------------------------

    def _clips(self, task: ClipTask) -> tuple[int, list[Failure]]:
        arrays: dict[str, list[np.ndarray]] = {}
        keys, failures = list[bytes](), list[Failure]()

        def keep(clips: list[Clip]) -> None:
            for row, key, made in self._encoded(clips):
                if isinstance(made, LeftOut):
                    failures.append(failure(row, made))
                    continue
                keys.append(key)
                for name, values in made.items():
                    arrays.setdefault(name, []).append(values)

        held: list[Clip] = []
        for track, wanted in task.tracks:
            for numbers, clip in self._read(track, wanted):
                rows = [wanted[number] for number in numbers]
                if isinstance(clip, LeftOut):
                    failures += [failure(row, clip) for row, _ in rows]
                    continue
                held.append((clip, rows))
                if len(held) == (1 if self.alone else self.size):
                    keep(held)
                    held = []
        if held:
            keep(held)
        if keys:
            write_part(self.out / CLIPS, keys, {name: np.stack(values) for name, values in arrays.items()})
        return len(keys) + len(failures), failures

    def _read(self, track: Track, wanted: Rows) -> Iterator[tuple[list[int], Tensor | LeftOut]]:
        rows = [row for row, _ in wanted]
        try:
            if self.source.encoded:
                yield from (([number], torch.zeros(0)) for number in range(len(rows)))
            else:
                yield from self.source.read(track, rows)
        except LeftOut as why:
            yield list(range(len(rows))), why

    def _encoded(self, clips: list[Clip]) -> Iterator[tuple[Row, bytes, dict[str, np.ndarray] | LeftOut]]:
        """Latents and score of every row, or why there are none; one that a model refuses costs no other."""
        rows = [(number, row, key) for number, (_, rows) in enumerate(clips) for row, key in rows]
        try:
            columns = self._columns([clip for clip, _ in clips], [(number, row) for number, row, _ in rows])
        except LeftOut as why:
            columns, refused = None, why
        except ValueError as error:
            columns, refused = None, LeftOut("refused", f"{rows[0][1]['id']}: a model refuses it ({error})")
        if columns is None and len(rows) > 1:
            for clip, own in clips:
                for pair in own:
                    yield from self._encoded([(clip, [pair])])
            return
        for place, (_, row, key) in enumerate(rows):
            if columns is None:
                yield row, key, refused
                continue
            try:
                yield row, key, {
                    name: in_range(values[place], "float32" if name == "score" else self.precision, name)
                    for name, values in columns.items()
                }
            except ValueError as error:
                yield row, key, LeftOut("not finite", f"{row['id']}: {error}: look at its clip first")

    def _columns(self, clips: list[Tensor], rows: list[tuple[int, Row]]) -> dict[str, np.ndarray]:
        """Mean, std and score of every row."""
        if (known := self.source.features([row for _, row in rows])) is not None:
            parts = {"mean": known.mean, "std": known.std, "score": known.score}
            return {name: values for name, values in parts.items() if values is not None}
        assert self.codec is not None
        audio, rate = torch.stack(clips), self.source.sample_rate
        mean, std = self.codec.encode(resampled(audio, rate, self.codec.sample_rate).to(self.place))
        at = [number for number, _ in rows]
        columns = {"mean": array(mean)[at], **({} if std is None else {"std": array(std)[at]})}
        if self.reward is not None:
            groups = [[k] for k in range(len(rows))] if self.alone else [list(range(len(rows)))]
            scores = [self.reward.score(audio[[at[k] for k in group]], rate, [rows[k][1]["caption"] for k in group])
                      for group in groups]  # fmt: skip
            columns["score"] = np.concatenate([array(score) for score in scores])
        return columns


def resampled(audio: Tensor, rate: int, target: int) -> Tensor:
    """Clips ``(B, N)`` at another rate."""
    if rate == target:
        return audio
    import soxr

    return torch.from_numpy(np.ascontiguousarray(soxr.resample(audio.numpy().T, rate, target).T))


def array(value: Tensor) -> np.ndarray:
    """A tensor of any device as an array."""
    return value.detach().cpu().numpy()


@contextmanager
def one_thread(wanted: bool) -> Iterator[None]:
    """Within this block torch computes on one thread: how sums are split must not depend on the machine's cores."""
    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if wanted:
            torch.set_num_threads(before)


def work(bench: Bench, tasks: Sequence[ClipTask | TextTask], jobs: int) -> Iterator[Done]:
    """Do tasks in ``jobs`` processes, in any order; GPUs are taken in turn."""
    if jobs <= 1 or len(tasks) < 2:
        yield from map(bench.do, tasks)
        return
    from fluxlight.files.orphans import end_with_parent

    place = bench.place
    bench.to("cpu")  # what is sent to another process
    # spawned: no thread, lock or GPU context of this process is copied
    context = get_context("spawn")
    places = context.SimpleQueue()
    for number in range(jobs):
        places.put(f"cuda:{number % torch.cuda.device_count()}" if place == "cuda" else place)
    threads = torch.get_num_threads()
    with ProcessPoolExecutor(
        min(jobs, len(tasks)), context, initializer=_begin, initargs=(end_with_parent, bench, places, threads)
    ) as workers:
        futures = [workers.submit(_do, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            raise
    bench.to(place)


_own: dict[str, Bench] = {}


def _begin(watch: Any, bench: Bench, places: Any, threads: int) -> None:
    watch()
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    torch.set_num_threads(threads)
    bench.to(places.get())
    _own["bench"] = bench


def _do(task: ClipTask | TextTask) -> Done:
    return _own["bench"].do(task)
