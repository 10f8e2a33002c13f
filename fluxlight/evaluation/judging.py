"""Judging: what every judge says about a clip, computed once and kept in the cache folder.

A cached value is keyed by the content of the audio file, the loudness protocol, the judge's identity (name, version,
weight hash) and, for rewards, the prompt. Clips are judged one at a time, so a value never depends on what was cached.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fluxlight.clips.faults import LOWEST_RATE, faults_of
from fluxlight.clips.read import read_channels
from fluxlight.files import atomic_path, cache_folder, sha256
from fluxlight.files.orphans import end_with_parent
from fluxlight.metrics.arrays import Array, array64
from fluxlight.metrics.windows import FADTK, window_embeddings
from fluxlight.progress import track

PROTOCOLS = {
    "locked": "every clip at -23 LUFS, no limiting",
    "delivered": "clips as they were delivered",
}
"""Loudness protocols: systems are compared locked; delivered is what a listener hears."""
SHORTEST_SECONDS = 1.0  # judges refuse less; a shorter clip is padded with silence and reported as truncated
LIFTED_RATE = 44_100  # Hz; what a clip is brought to whose rate is lower than judges take, reported as a fault
WORTH_A_POOL = 16  # files: starting processes costs about as much as judging so many


@dataclass
class Judges:
    """Who judges.

    Attributes:
        claps: name -> joint text-audio model; the first one gives FAD and KAD.
        rewards: name -> reward.
        optimised: names of those that were used to train or select: they are marked in every table.
        windows: names of the CLAPs that also embed fadtk's windows of every clip.
    """

    claps: Mapping[str, Any] = field(default_factory=dict)
    rewards: Mapping[str, Any] = field(default_factory=dict)
    optimised: frozenset[str] = frozenset()
    windows: tuple[str, ...] = ()

    def identities(self) -> dict[str, str]:
        """Name -> identity of every judge."""
        return {name: judge.identity for name, judge in {**self.claps, **self.rewards}.items()}


@dataclass(frozen=True)
class Task:
    """A file to be judged for a prompt ("" for reference clips) under a loudness protocol."""

    path: Path
    prompt: str
    protocol: str


def _key(*parts: str) -> Path:
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return cache_folder() / "embeddings" / digest[:2] / f"{digest}.npy"


def _load(path: Path) -> np.ndarray | None:
    try:
        return np.load(path, allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError, OSError):
        return None  # absent or torn: computed again


def _store(path: Path, value: Any) -> np.ndarray:
    array = array64(value).astype(np.float32)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)
    return array


def prepare(audio: np.ndarray, sample_rate: int, protocol: str) -> np.ndarray:
    """Samples ``(N,)`` as the judges hear them: finite, at least a second long, at the loudness of the protocol."""
    audio = np.nan_to_num(np.asarray(audio, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    audio = np.pad(audio, (0, max(0, int(np.ceil(SHORTEST_SECONDS * sample_rate)) - audio.size)))
    if protocol == "delivered":
        return audio
    if protocol != "locked":
        raise ValueError(f"loudness protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}")
    import torch

    from fluxlight.postprocess import LockedLoudness
    from fluxlight.types import Clip

    return LockedLoudness()(Clip("", torch.from_numpy(audio), sample_rate)).audio.numpy()


def lifted(audio: np.ndarray, sample_rate: int) -> tuple[np.ndarray, int]:
    """Samples ``(N,)`` and a rate in Hz that every judge takes: a table must not end at one telephone recording."""
    if sample_rate >= LOWEST_RATE:
        return audio, sample_rate
    import torch

    from fluxlight.clips.resample import resample

    return resample(torch.from_numpy(audio)[None], sample_rate, LIFTED_RATE)[0].numpy(), LIFTED_RATE


def _wanted(digest: str, prompt: str, protocol: str, judges: Judges) -> dict[tuple[str, str], Path]:
    """Cache files of everything the judges say about a file."""
    wanted = {("claps", n): _key("clap", j.identity, protocol, digest) for n, j in judges.claps.items()}
    wanted |= {("windows", n): _key(FADTK, judges.claps[n].identity, protocol, digest) for n in judges.windows}
    return wanted | {
        ("rewards", n): _key("reward", j.identity, protocol, digest, prompt) for n, j in judges.rewards.items()
    }


def _known(task: Task, judges: Judges) -> bool:
    return all(path.exists() for path in _wanted(sha256(task.path), task.prompt, task.protocol, judges).values())


def judge_audio(
    digest: str, audio: np.ndarray, sample_rate: int, prompt: str, protocol: str, judges: Judges
) -> dict[tuple[str, str], np.ndarray]:
    """What the judges say about samples ``(N,)``, from the cache where it is known: (kind, judge) -> value.

    Kinds are ``claps`` ``(d,)``, ``windows`` ``(w, d)`` and ``rewards`` ``()``.

    Args:
        digest: hash of what the samples are, for instance of their file.
        audio: samples as delivered; brought to the loudness of ``protocol`` here.
        sample_rate: Hz.
        prompt: for the rewards.
        protocol: loudness protocol.
        judges: who judges.
    """
    wanted = _wanted(digest, prompt, protocol, judges)
    values = {name: _load(path) for name, path in wanted.items()}
    if any(value is None for value in values.values()):
        import torch

        heard, sample_rate = lifted(prepare(audio, sample_rate, protocol), sample_rate)
        batch = torch.from_numpy(heard)[None]
        for (kind, name), value in values.items():
            if value is not None:
                continue
            if kind == "claps":
                said: Any = judges.claps[name].embed_audio(batch, sample_rate)[0]
            elif kind == "windows":
                said = window_embeddings(heard, sample_rate, judges.claps[name])
            else:
                known = {clap.identity: values["claps", n] for n, clap in judges.claps.items()}
                said = _reward(judges.rewards[name], batch, sample_rate, prompt, known, judges)
            values[kind, name] = _store(wanted[kind, name], said)
    return values  # type: ignore[return-value]


def judge_clip(path: Path, prompt: str, protocol: str, judges: Judges, seconds: float | None) -> dict[str, Any]:
    """Everything about one file: what the judges say, by kind and name, and what it is as it was delivered.

    That is its ``loudness`` in LUFS (of all its channels, while judges hear their mean), its ``faults``, and as
    ``file`` its sample rate in Hz, its length in seconds and its channels.
    """
    digest = sha256(path)
    channels, sample_rate = read_channels(path)
    raw = channels.mean(axis=1)
    try:
        values = judge_audio(digest, raw, sample_rate, prompt, protocol, judges)
    except ValueError as error:
        raise ValueError(f"audio file {path} cannot be judged ({error})") from None
    loud_key = _key("loudness of the file", digest)
    if (loudness := _load(loud_key)) is None:
        loudness = _store(loud_key, _loudness(channels, sample_rate))
    return {
        "claps": {n: values["claps", n] for n in judges.claps},
        "windows": {n: values["windows", n] for n in judges.windows},
        "rewards": {n: float(values["rewards", n]) for n in judges.rewards},
        "loudness": float(loudness),
        "faults": faults_of(channels, sample_rate, seconds),
        "file": (sample_rate, len(channels) / sample_rate, channels.shape[1]),
    }


def _reward(
    reward: Any, audio: Any, sample_rate: int, prompt: str, known: Mapping[str, np.ndarray | None], judges: Judges
) -> Any:
    """Reward of one clip ``(1, N)``; one that stands on a CLAP of the table takes that CLAP's embeddings."""
    import torch

    shared = getattr(reward, "clap_identity", "")
    embedding = known.get(shared)
    if embedding is None or not prompt.strip():
        return reward.score(audio, sample_rate, [prompt])[0]
    clap = next(judge for judge in judges.claps.values() if judge.identity == shared)
    text = torch.from_numpy(embed_texts([prompt], clap)).float()
    return reward.score_heard(audio, sample_rate, [prompt], torch.from_numpy(embedding)[None], text)[0]


def _loudness(channels: np.ndarray, sample_rate: int) -> float:
    if not np.isfinite(channels).all() or len(channels) < 0.4 * sample_rate:
        return float("-inf")
    import torch

    from fluxlight.postprocess import integrated_loudness

    return integrated_loudness(torch.from_numpy(channels[:, 0] if channels.shape[1] == 1 else channels), sample_rate)


Work = Callable[[Any, Judges], Any]
"""What is done with one task: a function of a module, so that another process can find it."""

_WORKER: dict[str, Any] = {}


def _start(work: Work, judges: Judges) -> None:
    import torch

    end_with_parent()
    torch.set_num_threads(1)
    _WORKER.update(work=work, judges=judges)


def _call(task: Any) -> Any:
    return _WORKER["work"](task, _WORKER["judges"])


def each(
    work: Work, tasks: Sequence[Any], judges: Judges, jobs: int = 1, what: str = "judging", progress: bool = False,
    chunk: int = 1,
) -> Iterator[Any]:  # fmt: skip
    """``work(task, judges)`` of every task in order, in ``jobs`` processes, with a bar if ``progress``."""
    if jobs > 1 and len(tasks) > 1:
        # spawn, not fork: a forked torch may hang in its thread pool
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, _start, (work, judges)) as pool:
            yield from track(pool.map(_call, tasks, chunksize=chunk), what, len(tasks), "clip", progress)
        return
    with _one_thread():
        yield from track((work(task, judges) for task in tasks), what, len(tasks), "clip", progress)



@contextmanager
def _one_thread() -> Iterator[None]:
    # sums depend on the number of threads: a value must be the same from here and from a process of the pool
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fill(task: Task, judges: Judges) -> None:
    judge_clip(task.path, task.prompt, task.protocol, judges, None)


def judge_files(
    tasks: Sequence[Task], judges: Judges, seconds: float | None = None, jobs: int = 1, what: str = "judging",
    progress: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """``judge_clip`` over files; with many that are not cached yet, in ``jobs`` processes."""
    pending = [task for task in tasks if not _known(task, judges)] if jobs > 1 else []
    if len(pending) > WORTH_A_POOL:
        list(each(_fill, pending, judges, jobs, what, progress, chunk=4))
        progress = False
    with _one_thread():
        rows = (judge_clip(task.path, task.prompt, task.protocol, judges, seconds) for task in tasks)
        return list(track(rows, what, len(tasks), "clip", progress))


def embed_texts(texts: Sequence[str], clap: Any) -> Array:
    """Text embeddings ``(n, d)``, cached by text and model."""
    keys = [_key("text", clap.identity, text) for text in texts]
    values = [_load(key) for key in keys]
    missing = [i for i, value in enumerate(values) if value is None]
    if missing:
        said = clap.embed_text([texts[i] for i in missing])
        for i, row in zip(missing, said, strict=True):
            values[i] = _store(keys[i], row)
    return np.stack(values).astype(np.float64)  # type: ignore[arg-type]
