"""The candidates folder: what ``fluxlight predict`` leaves and ``fluxlight score`` and ``fluxlight select`` read.

::

    <folder>/candidates.jsonl            one Candidate a line, append-only
    <folder>/audio/<id>_<seed>_<checkpoint8>.wav     what was heard: mono, 16 bit (float beyond full scale)
    <folder>/latents/<id>_<seed>_<checkpoint8>.npy   what was sampled: (L, D) float32, codec units

A row is keyed by (prompt id, seed, checkpoint hash). Files of a row are written (atomically) before the row, so a row
that can be read always has its files; a batch is appended in one write. A failed row is kept with its error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fluxlight.clips.write import write_audio
from fluxlight.files import append_jsonl, atomic_path, hash_of, mend_jsonl, read_jsonl, write_jsonl
from fluxlight.types import Candidate

ROWS = "candidates.jsonl"
NOT_FINITE = "clip is not finite: the sampler or the codec diverged"
LONGEST_ID = 200  # characters of a file's name that an id may take
Key = tuple[str, int, str]
"""(prompt id, noise seed, checkpoint hash): what makes a candidate itself."""


def key_of(row: Candidate | dict[str, Any]) -> Key:
    """The key of a candidate or of any row of scores, experts or pairs that carries its three columns."""
    if isinstance(row, Candidate):
        return row.id, row.seed, row.checkpoint
    return str(row["id"]), int(row["seed"]), str(row["checkpoint"])


def file_stem(id: str, seed: int, checkpoint: str) -> str:
    """The name shared by a candidate's files; anything but letters, digits, dot and dash in an id becomes a dash.

    A long id (file systems take 255 bytes) is cut, and a hash of it all keeps it apart from others.
    """
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", id)
    if len(name) > LONGEST_ID:
        name = f"{name[: LONGEST_ID - 17]}-{hash_of(id)}"
    return f"{name}_{seed}_{checkpoint[:8]}"


def read_candidates(folder: str | Path, missing_ok: bool = False) -> list[Candidate]:
    """Rows of a candidates folder in file order, one per key.

    A key that failed once and succeeded later is the later row, at the place of the first.

    Args:
        folder: the candidates folder.
        missing_ok: an absent file is an empty list instead of an error.
    """
    path = Path(folder) / ROWS
    if not path.exists() and not missing_ok:
        raise FileNotFoundError(f"no {ROWS} in {folder}: write candidates first with `fluxlight predict`")
    known = {field.name for field in fields(Candidate)}
    rows: dict[Key, Candidate] = {}
    for number, row in enumerate(read_jsonl(path), 1):
        try:
            candidate = Candidate(**{name: value for name, value in row.items() if name in known})
        except TypeError:
            raise ValueError(f"{path} line {number} is not a candidate row: it needs {sorted(known)}") from None
        if key_of(candidate) not in rows or rows[key_of(candidate)].error:
            rows[key_of(candidate)] = candidate
    return list(rows.values())


def open_folder(folder: str | Path) -> set[Key]:
    """Make the folder ready to be appended to and return the keys that are done (failed ones count as missing).

    A last line cut short by a kill is removed. To stay bit-identical under interruption a writer must keep its
    batches as they were planned and repeat a batch of which any key is missing, since a clip depends on its batch to
    float tolerance; `write_batch` skips the keys that are there.
    """
    mend_jsonl(Path(folder) / ROWS)
    return done_in(folder)


def done_in(folder: str | Path) -> set[Key]:
    """The keys that are done, of a folder that is left as it is."""
    return {key_of(row) for row in read_candidates(folder, missing_ok=True) if not row.error}


def put_in_order(folder: str | Path, keys: Sequence[Key]) -> None:
    """Sort the rows of ``keys`` into their order, all others staying where they are.

    Rows of several processes come as they are made, and `fluxlight score` cuts its batches from the order of rows.
    """
    path, place = Path(folder) / ROWS, {key: number for number, key in enumerate(keys)}
    rows = mend_jsonl(path)
    spots = [spot for spot, row in enumerate(rows) if key_of(row) in place]
    ordered = sorted((rows[spot] for spot in spots), key=lambda row: place[key_of(row)])
    if [rows[spot] for spot in spots] != ordered:
        for spot, row in zip(spots, ordered, strict=True):
            rows[spot] = row
        write_jsonl(path, rows)


def write_batch(
    folder: str | Path,
    ids: Sequence[str],
    prompts: Sequence[str],
    seeds: Sequence[int] | Tensor,
    checkpoint: str,
    audio: Tensor | Sequence[Tensor],
    latents: Tensor,
    sample_rate: int,
    extra: dict[str, Any] | None = None,
    done: set[Key] | None = None,
    notes: Sequence[Sequence[str]] | None = None,
    errors: Sequence[str] | None = None,
    spreads: Sequence[dict[str, Any] | None] | None = None,
) -> list[Candidate]:
    """Write one batch of candidates: files first, then all rows in one append.

    Args:
        folder: the candidates folder, made if absent.
        ids: prompt ids, length B.
        prompts: prompt texts, length B.
        seeds: noise seeds, length B.
        checkpoint: hash of the weights that made them (`bundle.bundle_hash`).
        audio: decoded clips, B times ``(N,)``, float, nominally in [-1, 1].
        latents: sampled latents ``(B, L, D)``, codec units.
        sample_rate: Hz of ``audio``.
        extra: the recipe (score s, guidance weight, steps, codec identity ...), the same for every row.
        done: keys not to be written again; grown by the keys that were written.
        notes: what was done to each clip, kept in its row.
        errors: why a clip failed, "" where it did not.
        spreads: `clips.spread.Spread` of each clip's latent as plain values, kept in its row.

    Returns:
        The rows that were appended. A clip that is not finite becomes a failed row, without files.
    """
    folder, done = Path(folder), set() if done is None else done
    rows = []
    points = latents.detach().float().cpu().numpy()
    for i, (id, prompt, seed) in enumerate(zip(ids, prompts, (int(s) for s in seeds), strict=True)):
        said: dict[str, Any] = {} if notes is None else {"notes": list(notes[i])}
        said |= {"spread": spreads[i]} if spreads is not None and spreads[i] else {}
        row = Candidate(id, prompt, seed, checkpoint, "", "", extra={**(extra or {}), **said})
        if key_of(row) in done:
            continue
        row.error = errors[i] if errors is not None else ""
        if not (bool(audio[i].isfinite().all()) and np.isfinite(points[i]).all()):
            row.error = row.error or NOT_FINITE
        if not row.error:
            stem = file_stem(id, seed, checkpoint)
            row.audio, row.latent = f"audio/{stem}.wav", f"latents/{stem}.npy"
            write_audio(folder / row.audio, audio[i], sample_rate)
            with atomic_path(folder / row.latent) as temporary, temporary.open("wb") as file:
                np.save(file, points[i])
        rows.append(row)
    append_jsonl(folder / ROWS, [asdict(row) for row in rows])
    done.update(key_of(row) for row in rows if not row.error)
    return rows


def write_failures(
    folder: str | Path, ids: Sequence[str], prompts: Sequence[str], seeds: Iterable[int], checkpoint: str, error: str
) -> None:
    """Keep a batch that could not be made as failed rows, one line each with the error."""
    line = " ".join(str(error).split())
    rows = [
        Candidate(id, prompt, int(seed), checkpoint, "", "", error=line)
        for id, prompt, seed in zip(ids, prompts, seeds, strict=True)
    ]
    append_jsonl(Path(folder) / ROWS, [asdict(row) for row in rows])


def load_audio(folder: str | Path, row: Candidate | dict[str, Any]) -> tuple[np.ndarray, int]:
    """A row's clip ``(N,)`` float32 and its sample rate in Hz."""
    import soundfile

    path = Path(folder) / (row.audio if isinstance(row, Candidate) else row["audio"])
    if not path.is_file():
        raise FileNotFoundError(f"clip {path} is missing: remove its row from {ROWS} and run `fluxlight predict` again")
    audio, sample_rate = soundfile.read(path, dtype="float32")
    return (audio if audio.ndim == 1 else audio.mean(axis=1)), int(sample_rate)


def load_latents(folder: str | Path, rows: Sequence[Candidate | dict[str, Any]]) -> np.ndarray:
    """Sampled latents of rows, ``(n, L, D)`` float32, codec units: expert iteration and CRPO train on these."""
    names = [row.latent if isinstance(row, Candidate) else row["latent"] for row in rows]
    for name in names:
        if not name or not (Path(folder) / name).is_file():
            raise FileNotFoundError(f"latent {Path(folder) / name} is missing: run `fluxlight predict` again")
    return np.stack([np.load(Path(folder) / name) for name in names])
