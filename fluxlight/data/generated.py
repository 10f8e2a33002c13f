"""Generated clips as training rows: the latents that selection kept, under the text they were made for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fluxlight.clips.candidates import read_candidates
from fluxlight.data.store import LatentStore
from fluxlight.files import hash_of, read_jsonl
from fluxlight.tables import first_double
from fluxlight.types import Batch


def read_selection(path: str | Path, verb: str) -> list[dict[str, Any]]:
    """Rows of a selection file, each clip once and under the caption that it was drawn for.

    What a clip was drawn for is what candidates.jsonl beside the file says.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is empty, a row lacks its id or prompt, takes a clip that another row has or that was drawn for
            another caption.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"selection {path} is missing: make it with 'fluxlight select {verb}'")
    rows = read_jsonl(path)
    if not rows:
        raise ValueError(f"selection {path} is empty: predict more candidates, or relax the selection")
    for number, row in enumerate(rows, 1):
        if lacking := sorted({"id", "prompt"} - row.keys()):
            raise ValueError(f"selection {path} row {number} has no {lacking[0]}: run 'fluxlight select {verb}' again")
    if double := first_double(" ".join(_latents(row)) for row in rows):
        before, again = double
        raise ValueError(
            f"selection {path}: rows {before + 1} and {again + 1} are the same ({', '.join(_latents(rows[again]))}): "
            "take one of them out; data.oversample repeats all"
        )
    drawn = {row.latent: (row.id, row.prompt) for row in read_candidates(Path(path).parent, missing_ok=True)}
    for number, row in enumerate(rows, 1):
        for latent in _latents(row):
            id, prompt = drawn.get(latent, (row["id"], row["prompt"]))
            if (id, prompt) != (row["id"], row["prompt"]):
                raise ValueError(
                    f"selection {path} row {number}: {latent} was drawn for {id!r}, {prompt!r}, but the row says "
                    f"{row['id']!r}, {row['prompt']!r}: run 'fluxlight select {verb}' again"
                )
    return rows


def _latents(row: dict[str, Any]) -> list[str]:
    """Files of the clips of a row: an expert's, or winner's and loser's."""
    sides = [row, *(row[side] for side in ("winner", "loser") if isinstance(row.get(side), dict))]
    return [str(side["latent"]) for side in sides if side.get("latent")]


class Generated:
    """Rows of generated latents.

    The sampled latents are used as they are, not decoded and encoded again (our choice; upstream's is not public).

    Args:
        rows: each with ``id`` and ``prompt`` (of the caption's clip in ``store``: both must agree), ``latent`` (file
            below ``folder``), ``reward``, and ``label`` where another score than the reward is to condition it.
        folder: where latents are.
        store: the training store, for the texts and the statistics.
        spread: root mean square that the normalised latents of all rows together are brought to, 1 being that of the
            store; None leaves them as drawn. Guidance and a network's own blur change it, and a model that is trained
            on narrower clips than the store's makes narrower ones.
    """

    def __init__(
        self, rows: Sequence[dict[str, Any]], folder: str | Path, store: LatentStore, spread: float | None = None
    ) -> None:
        store.require_latents()
        self.store = store
        self.positions = np.array([store.position(str(row["id"]), str(row["prompt"])) for row in rows])
        self.latents = np.stack([self._load(Path(folder) / row["latent"]) for row in rows])
        if spread is not None:
            mean, std = store.statistics
            self.latents = with_spread(self.latents, mean.numpy(), std.numpy(), spread)
        self.scores = np.array([float(row.get("label", row["reward"])) for row in rows], dtype=np.float32)
        if not np.isfinite(self.scores).all():
            raise ValueError(f"a selected row in {folder} has a reward that is not finite: run 'fluxlight score' again")

    def _load(self, path: Path) -> np.ndarray:
        try:
            latent = np.load(path)
        except (OSError, ValueError, EOFError):
            raise FileNotFoundError(f"latent {path} is missing or damaged: run 'fluxlight predict' again") from None
        assert self.store.mean is not None
        if latent.shape != self.store.mean.shape[1:]:
            raise ValueError(
                f"latent {path} has shape {latent.shape}, the store {self.store.mean.shape[1:]}: predict anew"
            )
        return latent

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def checksum(self) -> str:
        """Sixteen digits over latents, rewards and whose text each has."""
        arrays = (self.positions, self.latents, self.scores)
        return hash_of([hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for array in arrays])

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """The clips of ``indices``; they have no posterior: their std is 0 where the store has one."""
        index = np.asarray(indices, dtype=np.int64)
        texts = self.store.prompts(self.positions[index].tolist(), [0] * len(index))
        mean = torch.from_numpy(self.latents[index].astype(np.float32))
        std = None if self.store.std is None else torch.zeros_like(mean)
        return Batch(mean, std, texts.text, texts.text_c, torch.from_numpy(self.scores[index]), torch.from_numpy(index))


def with_spread(latents: np.ndarray, mean: np.ndarray, std: np.ndarray, spread: float) -> np.ndarray:
    """Latents ``(n, L, D)`` about ``mean`` ``(D,)`` whose (x - mean) / std has the root mean square ``spread``."""
    if not spread > 0:
        raise ValueError(f"spread is {spread}: it is a root mean square in units of the store's, above 0")
    normal = (latents.astype(np.float64) - mean) / std
    found = np.sqrt(np.mean(normal**2))
    if not found > 0:
        raise ValueError("the selected latents are all equal to the store's mean: predict again")
    return (normal * (spread / found) * std + mean).astype(np.float32)
