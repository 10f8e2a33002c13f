"""Samples: clips beside a model card, the first that the model's own run rendered, so that nobody picked them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from fluxlight.clips.candidates import read_candidates
from fluxlight.clips.read import read_clip
from fluxlight.clips.write import write_audio

FOLDER = "samples"


@dataclass(frozen=True)
class Sample:
    """A clip beside the card.

    Attributes:
        prompt: what it was made from.
        file: below the model folder.
    """

    prompt: str
    file: str


def write_samples(bundle: Path, checkpoint: str, out: Path, count: int) -> list[Sample]:
    """Copy the first ``count`` clips of the slice that these very weights rendered, as FLAC, 16 bit.

    Args:
        bundle: its run lies around it; a bundle without a run has no clips.
        checkpoint: hash of the weights.
        out: the model folder.
        count: clips at most; older ones beyond it go.
    """
    rows = read_candidates(bundle.parent / "slice", missing_ok=True)
    rows = sorted((row for row in rows if row.checkpoint == checkpoint and not row.error), key=lambda row: row.seed)
    found = []
    for number, row in enumerate(rows[:count], 1):
        samples, rate = read_clip(bundle.parent / "slice" / row.audio)
        name = f"{FOLDER}/{number}.flac"
        write_audio(out / name, torch.from_numpy(samples), rate)
        found.append(Sample(row.prompt, name))
    kept = {sample.file for sample in found}
    for path in (out / FOLDER).glob("*.flac"):
        if f"{FOLDER}/{path.name}" not in kept:
            path.unlink()
    return found
