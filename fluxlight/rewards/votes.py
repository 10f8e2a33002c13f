"""Votes of listeners to preference pairs: a table of which of two clips won, to the inputs of a head (FACTS section 5).

The table (CSV, TSV, JSON or JSONL) has the columns ``a`` and ``b``, audio files relative to the table, and ``winner``:
a, b or tie. ``prompt``, ``system_a`` and ``system_b`` may stand beside them.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fluxlight.device import chosen
from fluxlight.encoders.base import TextAudioModel
from fluxlight.encoders.mert import Mert
from fluxlight.files import atomic_path, hash_of
from fluxlight.progress import Bar
from fluxlight.prompts import is_empty
from fluxlight.rewards.pairs import FeaturePairs
from fluxlight.rewards.preferences import Preferences
from fluxlight.tables import read_vote_rows

TARGETS = {"a": 1.0, "b": 0.0, "tie": 0.5}
CHUNK = 64
"""Files that are heard between two saves (our choice)."""


@dataclass(frozen=True)
class Vote:
    """One row of the table; what it does not say is empty."""

    a: Path
    b: Path
    target: float
    prompt: str = ""
    system_a: str = ""
    system_b: str = ""
    line: int = 0


def read_votes(table: Path) -> list[Vote]:
    """The rows of a table; what does not fit is one line that names its line (`fluxlight.tables.read_vote_rows`)."""
    votes = []
    for row in read_vote_rows(table):
        a, b = table.parent / row.a, table.parent / row.b
        votes.append(Vote(a, b, TARGETS[row.winner], row.prompt, row.system_a, row.system_b, row.line))
    return votes


def prepare(
    table: Path,
    out: Path,
    clap: TextAudioModel,
    mert: Mert | None = None,
    text: bool = True,
    device: str = "cpu",
) -> Preferences:
    """Hear every clip once and write the pairs; a run that was stopped goes on where it stopped.

    Clips are heard as they are: their centre 10 s, at their own level (FACTS section 5).

    Args:
        table: the votes.
        out: ``.safetensors`` to write, what `PreferenceFiles` reads.
        clap: CLAP whose audio embedding is the head's first input, and whose text embedding is its last.
        mert: MERT for the input between them; null: none.
        text: whether the prompt is an input; an empty one is zeros.
        device: where the encoders run: cpu, cuda, mps, or auto for the GPU where there is one.
    """
    votes = read_votes(table)
    files = sorted({side for vote in votes for side in (vote.a, vote.b)})
    if lost := [path for path in files if not path.is_file()]:
        line = min(vote.line for vote in votes if lost[0] in (vote.a, vote.b))
        raise FileNotFoundError(
            f"{table} line {line}: {len(lost)} of {len(files)} clips are not there, the first {lost[0]}: put it there"
        )
    encoders: list[TextAudioModel | Mert] = [clap, *([mert] if mert else [])]
    for encoder in encoders:
        encoder.to(chosen(device))
    parts = out.with_name(out.name + ".parts")
    heard = dict(zip(files, _hear(files, encoders, parts), strict=True))
    distinct = sorted({vote.prompt for vote in votes if not is_empty(vote.prompt)}) if text else []
    said = dict(zip(distinct, clap.embed_text(distinct).cpu() if distinct else [], strict=True))
    silent = torch.zeros(clap.dim if text else 0)

    def side(name: str) -> Tensor:
        rows = [torch.cat([heard[getattr(vote, name)], said.get(vote.prompt, silent)]) for vote in votes]
        return torch.stack(rows)

    systems = ([getattr(vote, f"system_{name}") for vote in votes] for name in ("a", "b"))
    target = torch.tensor([vote.target for vote in votes])
    made = Preferences(FeaturePairs(side("a"), side("b"), target), *([] if not all(s) else s for s in systems))
    made.save(out)
    shutil.rmtree(parts, ignore_errors=True)
    return made


def _hear(files: Sequence[Path], encoders: Sequence[TextAudioModel | Mert], parts: Path) -> Tensor:
    """Embeddings ``(files, sum of widths)``, kept in ``parts`` chunk by chunk under the hash of what they depend on."""
    from safetensors.torch import load_file, save_file

    chunks = []
    with Bar(f"hearing {len(files)} clips", len(files), unit="clip") as bar:
        for start in range(0, len(files), CHUNK):
            some = files[start : start + CHUNK]
            state = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in some]
            kept = parts / f"{hash_of([[encoder.identity for encoder in encoders], state])}.safetensors"
            if not kept.is_file():
                rows = []
                for path in some:
                    rows.append(_embed(path, encoders))
                    bar.update()
                parts.mkdir(parents=True, exist_ok=True)
                with atomic_path(kept) as temporary:
                    save_file({"heard": torch.stack(rows)}, temporary)
            else:
                bar.update(len(some))
            chunks.append(load_file(kept)["heard"])
    return torch.cat(chunks)


def _embed(path: Path, encoders: Sequence[TextAudioModel | Mert]) -> Tensor:
    from fluxlight.clips.read import heard, read_channels

    channels, rate = read_channels(path)
    samples = heard(channels, path)
    if not np.abs(samples).max(initial=0.0) > 0:
        raise ValueError(f"audio {path} is silent, empty or not finite: take its votes out of the table")
    try:
        return torch.cat([encoder.embed_audio(torch.from_numpy(samples)[None], rate)[0].cpu() for encoder in encoders])
    except ValueError as error:
        raise ValueError(f"audio {path}: {error}") from None
