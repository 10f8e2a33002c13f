"""Pairs of known truth: which of two clips (or captions) must be preferred, because we did the damage ourselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fluxlight.codec.base import Codec
from fluxlight.embedded.corpus import FAULTS
from fluxlight.random import generator
from fluxlight.rewards.embedded import EmbeddedReward
from fluxlight.rewards.features import CLEAN, Items, corpus_items

WRONG_CAPTION = 2.0
"""A wrong caption weighs as much as a fault of level 2 (our choice)."""


@dataclass
class FeaturePairs:
    """A batch of pairs as the head sees them.

    Attributes:
        a, b: inputs of the head ``(B, F)``.
        target: probability that a is preferred ``(B,)``; 0.5 is a tie.
    """

    a: Tensor
    b: Tensor
    target: Tensor


@dataclass
class Mix:
    """Share of each question among the pairs (our choice).

    Attributes:
        damage: no fault against a fault, same composition; ``damage_across``: of different compositions, so that
            scores of unpaired clips compare.
        level: mild against strong fault of one kind, same composition; ``level_across``: of different compositions.
        caption: right against wrong caption of one clip; ``caption_across``: of two equally clean clips.
        tie: two right captions of one clip.
    """

    damage: float = 0.22
    damage_across: float = 0.24
    level: float = 0.1
    level_across: float = 0.1
    caption: float = 0.14
    caption_across: float = 0.14
    tie: float = 0.06


class PairSampler:
    """Draws pairs of items, as indices.

    The truth has degrees: a fault of level k costs k, a wrong caption ``WRONG_CAPTION``, and the target of a pair is
    sigmoid(difference), as if voters erred at that rate (Bradley-Terry). Certain targets would only teach the head to
    saturate, and a saturated score has nothing left to condition on. A target above one half is the known order.

    Args:
        items: embeddings with labels.
        held_out: fault kinds that are never drawn.
        mildest: levels below this one are never drawn.
        mix: share of each question.
    """

    def __init__(self, items: Items, held_out: Sequence[str] = (), mildest: int = 1, mix: Mix | None = None) -> None:
        unknown = sorted(set(held_out) - set(FAULTS))
        if unknown:
            raise ValueError(f"held_out names {unknown[0]!r}, which is no fault: choose from {', '.join(FAULTS)}")
        self.items = items
        kind, level, clip = items.kind, items.level, items.clip
        banned = torch.tensor([FAULTS.index(name) for name in held_out], dtype=torch.int64)
        allowed = (kind == CLEAN) | ((level >= mildest) & ~torch.isin(kind, banned))
        self.clean = ((kind == CLEAN) & allowed).nonzero().squeeze(1)
        self.faulty = ((kind != CLEAN) & allowed).nonzero().squeeze(1)
        self.any = allowed.nonzero().squeeze(1)
        if min(len(self.clean), len(self.faulty)) < 2 or items.text.shape[0] < 2:
            raise ValueError(
                f"{len(self.clean)} clean and {len(self.faulty)} faulty clips are too few to make pairs of"
            )
        by_clip: dict[int, list[int]] = {}
        for index in self.any.tolist():
            by_clip.setdefault(int(clip[index]), []).append(index)
        damage, graded = [], []
        for group in by_clip.values():
            damage += [(i, j) for i in group for j in group if kind[i] == CLEAN and kind[j] != CLEAN]
            graded += [(i, j) for i in group for j in group if kind[i] == kind[j] and 0 < level[i] < level[j]]
        self.same = {"damage": torch.tensor(damage).reshape(-1, 2), "level": torch.tensor(graded).reshape(-1, 2)}
        wish = mix or Mix()
        shares = {name: getattr(wish, name) for name in Mix.__dataclass_fields__}
        for name, pairs in self.same.items():
            if not len(pairs):
                shares[name] = 0.0
        self.names = list(shares)
        self.shares = torch.tensor([shares[name] for name in self.names])

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """``count`` pairs: item and (clip, wording) of each side, and target.

        Returns:
            items ``(count, 2)``, caption owner ``(count, 2)``, wording ``(count, 2)``, target ``(count,)``,
            question ``(count,)`` (index into ``names``).
        """
        clip, kind, level = self.items.clip, self.items.kind, self.items.level
        question = torch.multinomial(self.shares, count, replacement=True, generator=rng)

        def pick(pool: Tensor) -> Tensor:
            return pool[torch.randint(0, len(pool), (count,), generator=rng)]

        pair = torch.stack([pick(self.clean), pick(self.clean)], dim=1)
        for number, name in enumerate(self.names):
            if name in self.same and len(self.same[name]):
                made = pick(self.same[name])
            elif name == "damage_across":
                made = torch.stack([pick(self.clean), pick(self.faulty)], dim=1)
            elif name == "level_across":
                made = torch.stack([pick(self.faulty), pick(self.faulty)], dim=1)
            elif name in ("caption", "tie"):
                made = pick(self.any).unsqueeze(1).expand(-1, 2)
            else:
                continue
            pair = torch.where((question == number).unsqueeze(1), made, pair)
        # levels of two kinds are not comparable: give the second side another item of the first side's kind
        across = question == self.names.index("level_across")
        for each in torch.unique(kind[self.faulty]).tolist():
            pool = self.faulty[kind[self.faulty] == each]
            pair[:, 1] = torch.where(across & (kind[pair[:, 0]] == each), pick(pool), pair[:, 1])
        owner = clip[pair]
        wrong = (question == self.names.index("caption")) | (question == self.names.index("caption_across"))
        shift = torch.randint(1, self.items.text.shape[0], (count,), generator=rng)
        owner[:, 1] = torch.where(wrong, (owner[:, 1] + shift) % self.items.text.shape[0], owner[:, 1])
        wording = torch.randint(0, self.items.text.shape[1], (count, 2), generator=rng)
        worth = -level[pair].double() - WRONG_CAPTION * (owner != clip[pair])
        target = torch.sigmoid(worth[:, 0] - worth[:, 1]).float()
        # sides change at random, so that "a" means nothing
        flip = torch.rand(count, generator=rng) < 0.5
        pair, owner, wording = (torch.where(flip.unsqueeze(1), x.flip(1), x) for x in (pair, owner, wording))
        return pair, owner, wording, torch.where(flip, 1 - target, target), question


class RewardPairs(L.LightningDataModule):
    """Pairs from the corpus for one embedded reward; validation asks the same questions about unseen tunes.

    Args:
        split, val_split: corpus splits; no clip of the one shares a tune with the other.
        templates: caption templates of the training clips, ``a`` or ``b``; validation uses the same group.
        clips, val_clips: clips taken as the corpus holds them.
        varied, val_varied: of these, how many are rendered with every fault kind at two levels.
        wordings: true captions drawn per clip.
        held_out: fault kinds the reward never meets in training.
        mildest: training faults have at least this level; 2 holds the mildest out.
        mix: share of each question.
        batch_size: pairs per update (32 published).
        updates: updates per epoch.
        jitter: standard deviation of the noise added to training inputs, in units of a CLAP embedding's own spread
            per dimension; against learning single clips by heart.
        calibration_split, calibration_clips: where the mean 0.5 and sd 1.2 of the score are set.
        codec, coded: the first ``coded`` training clips are also met through this codec, under the same labels.
        seed: of levels, wordings, pairs and noise.
    """

    def __init__(
        self,
        split: str,
        templates: str,
        val_split: str = "judge_val",
        clips: int = 2000,
        val_clips: int = 300,
        varied: int = 120,
        val_varied: int = 60,
        wordings: int = 6,
        held_out: Sequence[str] = ("clipped",),
        mildest: int = 2,
        mix: Mix | None = None,
        batch_size: int = 256,
        updates: int = 250,
        jitter: float = 0.3,
        calibration_split: str = "train",
        calibration_clips: int = 2400,
        codec: Codec | None = None,
        coded: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.split, self.val_split, self.templates, self.wordings = split, val_split, templates, wordings
        self.clips, self.val_clips, self.varied, self.val_varied = clips, val_clips, varied, val_varied
        self.held_out, self.mildest, self.mix = tuple(held_out), mildest, mix
        self.batch_size, self.updates, self.jitter, self.seed = batch_size, updates, jitter, seed
        self.calibration_split, self.calibration_clips = calibration_split, calibration_clips
        self.codec, self.coded = codec, coded
        self.train_items: Items | None = None
        self.val_items: Items | None = None
        self.calibration_items: Items | None = None

    def setup(self, stage: str) -> None:
        """Render and embed what the cache lacks, and fit the descriptors' standardisation on the training clips."""
        if self.trainer is None or self.train_items is not None:
            return
        self.prepare(self.trainer.lightning_module.model)  # type: ignore[arg-type]

    def prepare(self, reward: EmbeddedReward) -> None:
        """The same without a trainer."""
        self.train_items = corpus_items(
            reward,
            self.split,
            self.clips,
            self.varied,
            self.templates,
            self.wordings,
            levels=tuple(range(self.mildest, 5)),
            codec=self.codec,
            coded=self.coded,
            seed=self.seed,
        )
        reward.descriptors.fit(self.train_items.second[: self.clips])
        self.val_items = corpus_items(
            reward, self.val_split, self.val_clips, self.val_varied, self.templates, self.wordings, seed=self.seed
        )
        self.calibration_items = corpus_items(
            reward, self.calibration_split, self.calibration_clips, 0, "own", seed=self.seed
        )
        self._reward = reward

    def train_dataloader(self) -> DataLoader:
        """Batches of `FeaturePairs`; batch k of epoch e is a pure function of (seed, e, k)."""
        assert self.train_items is not None
        sampler = PairSampler(self.train_items, self.held_out, self.mildest, self.mix)
        data = _Batches(self._reward, sampler, self.batch_size, self.jitter, self.seed)
        return DataLoader(data, batch_size=None, sampler=_Keys(self.updates))

    def val_dataloader(self) -> DataLoader:
        """Fixed batches without noise, with every fault kind and level."""
        assert self.val_items is not None
        sampler = PairSampler(self.val_items, mix=self.mix)
        return DataLoader(_Batches(self._reward, sampler, 512, 0.0, self.seed + 1), batch_size=None, sampler=range(8))


class _Keys(Sampler[int]):
    """Batch numbers that go on from epoch to epoch."""

    def __init__(self, count: int) -> None:
        self.count, self.epoch = count, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.count, (self.epoch + 1) * self.count))


class _Batches(Dataset[FeaturePairs]):
    """Batch k of pairs."""

    def __init__(self, reward: EmbeddedReward, sampler: PairSampler, size: int, jitter: float, seed: int) -> None:
        self.sampler, self.size, self.jitter, self.seed = sampler, size, jitter, seed
        self.join: Any = reward.join
        self.second = reward.descriptors.standardise(sampler.items.second)

    def __getitem__(self, number: int) -> FeaturePairs:
        rng = generator(self.seed, number)
        pair, owner, wording, target, _ = self.sampler.draw(self.size, rng)
        items = self.sampler.items
        sides = [
            self.join(items.clap[pair[:, s]], self.second[pair[:, s]], items.text[owner[:, s], wording[:, s]])
            for s in (0, 1)
        ]
        if self.jitter:
            # a unit vector of 128 has a spread of 0.09 per dimension
            scale = self.jitter * items.clap.shape[1] ** -0.5
            sides = [side + scale * torch.randn(side.shape, generator=rng) for side in sides]
        return FeaturePairs(sides[0], sides[1], target)
