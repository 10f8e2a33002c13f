"""Preference pairs from files: what listeners said, as inputs of a head, for training one as TuneJury was trained.

A file is a ``.safetensors`` with ``a`` and ``b`` ``(P, F)``, the head's inputs of the two clips (FACTS section 5: CLAP
audio | MERT | CLAP text), and ``target`` ``(P,)``, 1 where a won, 0 where b won, 0.5 for a tie. For anchor calibration
it also has ``system_a`` and ``system_b`` ``(P,)``, positions in the JSON list of names that its metadata has under
``systems``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fluxlight.files import atomic_path
from fluxlight.rewards.pairs import FeaturePairs


@dataclass
class Preferences:
    """The pairs of one file.

    Attributes:
        pairs: all of them.
        system_a, system_b: names of the systems that made the clips, length P; empty where they are not known.
    """

    pairs: FeaturePairs
    system_a: list[str] = field(default_factory=list)
    system_b: list[str] = field(default_factory=list)

    def save(self, path: str | Path) -> None:
        """Write the file."""
        from safetensors.torch import save_file

        names = sorted({*self.system_a, *self.system_b})
        tensors = {key: value.float().contiguous() for key, value in vars(self.pairs).items()}
        for key, own in (("system_a", self.system_a), ("system_b", self.system_b)):
            if own:
                tensors[key] = torch.tensor([names.index(name) for name in own])
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, {"systems": json.dumps(names)})

    @classmethod
    def load(cls, path: str | Path) -> Preferences:
        """Read the file; what does not fit is one line."""
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise FileNotFoundError(f"no preference pairs at {path}: give a .safetensors with a, b and target")
        try:
            with safe_open(path, "pt") as file:
                found = {key: file.get_tensor(key) for key in file.keys()}
                names = json.loads((file.metadata() or {}).get("systems", "[]"))
        except (SafetensorError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:120]
            raise ValueError(f"{path} cannot be read as preference pairs ({reason}): write it again") from None
        shapes = {key: tuple(value.shape) for key, value in found.items()}
        a, target = shapes.get("a", ()), shapes.get("target", ())
        if len(a) != 2 or shapes.get("b") != a or target != a[:1]:
            raise ValueError(f"{path} holds {shapes}: expected a and b (P, F) and target (P,)")
        pairs = FeaturePairs(*(found[key].float() for key in ("a", "b", "target")))
        if bad := [key for key, value in vars(pairs).items() if not bool(torch.isfinite(value).all())]:
            raise ValueError(f"{path}: {bad[0]} holds NaN or infinity: leave these pairs out")
        if not bool(((pairs.target >= 0) & (pairs.target <= 1)).all()):
            raise ValueError(f"{path}: target lies outside 0 to 1: 1 where a won, 0 where b won, 0.5 for a tie")
        systems = [[names[i] for i in found[key].tolist()] if key in found else [] for key in ("system_a", "system_b")]
        return cls(pairs, *systems)


class PreferenceFiles(L.LightningDataModule):
    """Training and validation pairs; each epoch walks all training pairs in a new order.

    Args:
        train: file of pairs.
        val: file of pairs; its systems, if named, are what anchor calibration is about.
        batch_size: pairs of a batch (FACTS section 5: 32).
        seed: of the order.
    """

    def __init__(self, train: str, val: str, batch_size: int = 32, seed: int = 42) -> None:
        super().__init__()
        self.train, self.val = Preferences.load(train), Preferences.load(val)
        self.batch_size, self.seed = batch_size, seed
        for name, found in (("train", self.train), ("val", self.val)):
            if len(found.pairs.target) < 2:
                raise ValueError(f"{name} holds {len(found.pairs.target)} pairs: at least 2 are needed")

    def train_dataloader(self) -> DataLoader[FeaturePairs]:
        """Batches in the order of the epoch; a last one of a single pair, which BatchNorm cannot take, is left out."""
        count = len(self.train.pairs.target)
        epoch = self.trainer.current_epoch if self.trainer else 0
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed + epoch))
        return self._batches(self.train, order[: count - (count % self.batch_size == 1)])

    def val_dataloader(self) -> DataLoader[FeaturePairs]:
        """Batches in the order of the file."""
        return self._batches(self.val, torch.arange(len(self.val.pairs.target)))

    def _batches(self, found: Preferences, order: Tensor) -> DataLoader[FeaturePairs]:
        columns = (found.pairs.a, found.pairs.b, found.pairs.target)
        batches: Any = [FeaturePairs(*(column[rows] for column in columns)) for rows in order.split(self.batch_size)]
        return DataLoader(batches, batch_size=None)
