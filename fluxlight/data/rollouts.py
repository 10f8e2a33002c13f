"""Rollouts on disk: what the old policy drew in each epoch and how it was rewarded, append-only.

::

    <run>/rollouts/rollouts.jsonl                                   one row a clip, keyed by (epoch, id, k)
    <run>/rollouts/latents/<epoch>_<row>_<hash8>.safetensors       the clips of a caption: (G, L, D), codec units

Latents are written before their rows, all rows of a caption in one append, so a caption is there whole or not at all.
A row names by ``drawn`` all that it depends on (weights, sampler, reward): what a run drew that went another way is
never taken for its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fluxlight.data.samplers import Stream
from fluxlight.data.store import LatentStore
from fluxlight.files import append_jsonl, atomic_path, mend_jsonl, read_jsonl

ROWS = "rollouts.jsonl"


@dataclass
class Group:
    """The rollouts of one caption in one epoch.

    Attributes:
        row: of the caption in the training store.
        seeds: noise seed of each clip, length G.
        latents: ``(G, L, D)``, codec units, on the CPU.
        rewards: ``(G,)``, NaN for a clip that failed.
    """

    row: int
    seeds: list[int]
    latents: Tensor
    rewards: Tensor


class RolloutFolder:
    """The rollouts of a run.

    Args:
        folder: made when absent.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._rows: dict[tuple[int, str, str], list[dict[str, Any]]] = {}

    def open(self, mend: bool = True) -> None:
        """Read what is there; with ``mend`` a last line that a kill cut short is removed."""
        self._rows = {}
        for row in (mend_jsonl if mend else read_jsonl)(self.folder / ROWS):
            self._rows.setdefault((int(row["epoch"]), str(row["id"]), str(row["drawn"])), []).append(row)

    def read(self, epoch: int, row: int, id: str, seeds: Sequence[int], drawn: str) -> Group | None:
        """The clips of a caption, or None where they are not there as they would be drawn now."""
        rows = self._rows.get((epoch, id, drawn), [])
        if [found["seed"] for found in rows] != list(seeds):
            return None
        try:
            latents = load_file(self.folder / rows[0]["latents"])["latents"]
        except (OSError, SafetensorError, KeyError):
            return None
        rewards = [math.nan if found["reward"] is None else found["reward"] for found in rows]
        return Group(row, list(seeds), latents, torch.tensor(rewards)) if len(latents) == len(rows) else None

    def write(self, epoch: int, id: str, prompt: str, group: Group, drawn: str, reward: str) -> None:
        """Keep the clips of a caption.

        Args:
            epoch: of the run.
            id: of the caption in the store.
            prompt: the caption.
            group: its clips.
            drawn: hash of what they depend on.
            reward: identity of what rewarded them.
        """
        name = f"latents/{epoch:05d}_{group.row:07d}_{drawn[:8]}.safetensors"
        with atomic_path(self.folder / name) as temporary:
            save_file({"latents": group.latents.contiguous()}, temporary)
        rows = [
            {"epoch": epoch, "id": id, "prompt": prompt, "k": k, "seed": seed, "latents": name, "drawn": drawn,
             "reward": value if math.isfinite(value) else None, "by": reward,
             "error": "" if math.isfinite(value) else "the clip could not be rewarded"}
            for k, (seed, value) in enumerate(zip(group.seeds, group.rewards.tolist(), strict=True))
        ]  # fmt: skip
        append_jsonl(self.folder / ROWS, rows)


class Captions:
    """Which captions of a training store are drawn in which epoch: passes over all distinct ones, in changing order.

    Args:
        store: the training store.
        seed: of the order.
        slice: prompts that are never drawn, by id and by text; None: none are known.
        name: of the stage's stream; under one seed, another has another order.
    """

    def __init__(self, store: LatentStore, seed: int, slice: LatentStore | None = None, name: str = "") -> None:
        ids = {row["id"] for row in slice.rows} if slice else set()
        texts = {text.strip().casefold() for text in slice.captions} if slice else set()
        rows, seen = [], set()
        for number, row in enumerate(store.rows):
            text = int(store.text_row[number])
            if text not in seen and row["id"] not in ids and row["caption"].strip().casefold() not in texts:
                seen.add(text)
                rows.append(number)
        if not rows:
            raise ValueError(f"store {store.folder} has no caption that is none of the slice: give another store")
        self.count = len(rows)
        self._stream = Stream(np.array(rows), seed, f"{name} rollouts: captions")

    def of(self, epoch: int, prompts: int) -> list[int]:
        """Rows of the ``prompts`` distinct captions of ``epoch``."""
        if prompts > self.count:
            raise ValueError(
                f"{prompts} captions an epoch, but the training store has {self.count} outside the slice: take "
                "fewer, by a smaller data.batch_size or data.batches_per_epoch"
            )
        # an epoch never straddles two passes, so its captions are distinct
        each = self.count // prompts
        whole, part = divmod(epoch, each)
        return self._stream.rows(whole * self.count + part * prompts, prompts)
