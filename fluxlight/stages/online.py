"""Online: the model draws clips for training captions, has them rewarded and learns from what it drew (METHODS 1.9)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fluxlight.data.rollouts import Captions, Group, RolloutFolder
from fluxlight.data.sft import SFTData
from fluxlight.data.store import LatentStore
from fluxlight.device import gather
from fluxlight.files import hash_of
from fluxlight.losses.awm import AWMLoss
from fluxlight.losses.base import PolicyLoss
from fluxlight.progress import track
from fluxlight.random import generator, permutation, words
from fluxlight.rewards.rollout import RolloutReward
from fluxlight.sample import Sampler
from fluxlight.stages.advantages import advantages
from fluxlight.stages.anchored import Anchored
from fluxlight.stages.frozen_copy import FrozenCopy
from fluxlight.stages.origin import Origin
from fluxlight.types import Batch
from fluxlight.weights.frozen import tensor_digest

OLD = "old policy"
"""Where a checkpoint keeps the old policy, and the epoch whose rollouts it drew."""


class Online(Anchored):
    """Reinforcement of what a reward prefers, by one of the policy losses. Settings below; the others are `Stage`'s.

    An epoch is ``data.batches_per_epoch`` batches. At its start the old policy draws ``per_prompt`` clips for each of
    P training captions, none of the slice, the reward rewards them, and every clip has an advantage over the others of
    its caption. Its batches then hold every clip at ``times`` noise levels, one in each of as many equal parts of
    [t_min, 1], in random order: P = processes x batch_size x batches_per_epoch / (per_prompt x times). The batch of the
    data module is replayed beside them where ``replay`` asks for it.

    Rollouts are rows on disk (`fluxlight.data.rollouts`): a run that goes on reads what it had drawn. Captions are
    shared among processes whole, so an advantage is the same for any number of them.

    Logs ``train/loss``, ``train/error_good``, ``train/error_bad`` (flow-matching error of clips above and below their
    caption's mean), what the loss logs: ``train/moved`` = |v - v_o|^2 and ``train/drift`` = |v - v_r|^2 among it,
    ``train/replay`` where there is one, ``train/lr``; of the epoch's rollouts ``train/reward`` and more of
    `advantages`, and ``train/rollout_rms``, the spread of their normalised latents (data: 1).

    Args:
        reward: of the rollouts; it is trained on, so it can judge nothing.
        loss: over single clips with an advantage (`fluxlight.losses`).
        per_prompt: clips of a caption.
        times: noise levels at which a clip is trained.
        t_min: times are drawn in [t_min, 1]: near the data a point knows its clip, nothing averages, and a negative
            advantage pushes without bound (METHODS 1.1).
        rollout: how the old policy draws; its score is asked for in training, too.
        rollout_score_quantile: ask for this quantile of the training scores instead of ``rollout.score``.
        limit: advantages are clipped to +- this.
        old_rate, old_hold: at the end of an epoch, after n updates, the old policy keeps min(old_rate n, old_hold) of
            itself and takes the rest from the policy (shipped 0.001 and 0.5, for runs of 1,000 updates and more).
        replay: weight of the flow-matching loss of store rows.
        **settings: of `Stage`.
    """

    def __init__(
        self,
        reward: RolloutReward,
        loss: PolicyLoss = AWMLoss(),  # noqa: B008
        per_prompt: int = 8,
        times: int = 4,
        t_min: float = 0.1,
        rollout: Sampler = Sampler(steps=10, cfg_weight=1.0, score=None),  # noqa: B008 (frozen)
        rollout_score_quantile: float | None = None,
        limit: float = 5.0,
        old_rate: float = 0.01,
        old_hold: float = 0.5,
        replay: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        for name, value, least in (("per_prompt", per_prompt, 2), ("times", times, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}: at least {least} is needed")
        if not 0 <= t_min < 1:
            raise ValueError(f"t_min is {t_min}: it is a time, 0 (data) up to below 1 (noise)")
        if old_rate < 0 or not 0 <= old_hold < 1:
            raise ValueError(f"old_rate {old_rate} must be at least 0 and old_hold {old_hold} within [0, 1)")
        if not limit > 0 or replay < 0:
            raise ValueError(f"limit {limit} must be above 0 and replay {replay} at least 0")
        self.reward, self.loss, self.limit, self.replay = reward, loss, limit, replay
        self.per_prompt, self.times, self.t_min = per_prompt, times, t_min
        self.rollout, self.rollout_score_quantile = rollout, rollout_score_quantile
        self.old_rate, self.old_hold = old_rate, old_hold
        self.old, self._drawn_in, self._epoch = FrozenCopy(), -1, -1

    # -- start and checkpoints -----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take the old policy, find the captions and look at what was drawn before."""
        super().setup(stage)
        if stage != "fit":
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, SFTData):
            raise ValueError(f"data is {type(data).__name__}: Online takes its captions from a store, use SFTData")
        data.store.require_latents()
        self.reward.check(data.store.meta["identities"])
        if self.rollout_score_quantile is not None and self.model.head is not None:
            asked = data.store.score_quantile(self.rollout_score_quantile)
            self.rollout = replace(self.rollout, score=asked)
        if self.model.head is None:
            self.rollout = replace(self.rollout, score=None, negative_score=None)
        self.captions = Captions(data.store, self.seed, data.slice, self.stream)
        self.captions.of(0, self.prompts)
        self.old.take(self.model)
        self.folder = RolloutFolder(Path(self.trainer.default_root_dir) / "rollouts")
        if self.trainer.is_global_zero:
            self.folder.open()
        self.trainer.strategy.barrier()
        if not self.trainer.is_global_zero:
            self.folder.open(mend=False)

    def on_fit_start(self) -> None:
        """Bring old policy, reference and reward to the policy's device."""
        super().on_fit_start()
        self.old.to(self.device)
        self.reward.to(self.device)

    @property
    def prompts(self) -> int:
        """Captions of an epoch."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        rows, each = data.batch_size * self.trainer.world_size * self._length, self.per_prompt * self.times
        if rows % each:
            raise ValueError(
                f"an epoch has {rows} clips at a noise level (data.batch_size {data.batch_size} x batches "
                f"{self._length} x processes {self.trainer.world_size}), no multiple of model.per_prompt "
                f"{self.per_prompt} x model.times {self.times}: change one of them"
            )
        return int(rows // each)

    @property
    def clips_drawn(self) -> int:
        """Rollouts of all epochs so far."""
        return (self._drawn_in + 1) * self.prompts * self.per_prompt

    @property
    def _length(self) -> int:
        return self._cut or int(self.trainer.num_training_batches)

    @property
    def origin(self) -> Origin:
        """With what rollouts depend on."""
        sampler = hash_of(self.rollout.plain())
        said = {"model.reward": self.reward.identity, "content of model.rollout": sampler}
        said |= {f"model.{name}": getattr(self, name) for name in ("per_prompt", "times", "t_min")}
        return {**super().origin, **said}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the old policy."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[OLD] = {"epoch": self._drawn_in, "state": self.old.state()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the old policy of the run that goes on."""
        super().on_load_checkpoint(checkpoint)
        if self.trainer.state.fn == "fit" and OLD in checkpoint:
            self.old.restore(checkpoint[OLD]["state"])
            self._drawn_in = int(checkpoint[OLD]["epoch"])

    # -- training ------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Policy loss of a batch of rollouts, and the loss of the store's batch where it is replayed."""
        accumulate, n = self.trainer.accumulate_grad_batches, len(batch.index)
        place = self.global_step * accumulate + batch_idx % accumulate
        epoch, within = divmod(place, self._length)
        if epoch != self._epoch:
            self._enter(epoch)
        first = (within * self.trainer.world_size + self.global_rank) * n
        places = self._order[[(first + k) % len(self._order) for k in range(n)]]
        clips, levels = np.divmod(places, self.times)
        drawn = self.draws(batch.mean.shape, batch_idx)
        rolled, advantage = self._batch(clips), self._advantage[clips].to(self.device)
        # rollouts are trained under what they were drawn for, without drops
        never = torch.full_like(drawn.t, 2.0)
        keep = never if self.rollout.score is not None else -never
        draws = replace(drawn, t=self._t[clips, levels].to(self.device), text_coin=never, score_coin=keep)
        policy = self.predict(rolled, draws)
        with torch.no_grad():
            old, reference = (self.predict(rolled, draws, m.model).velocity for m in (self.old, self.reference))
        loss, logs = self.loss(policy.velocity, old, reference, policy.target, advantage, draws.t)
        errors = policy.error.detach()
        for name, part in (("good", advantage > 0), ("bad", advantage < 0)):
            if bool(part.any()):
                logs[f"error_{name}"] = errors[part].mean()
        if self.replay:
            again = self.predict(batch, drawn).error.mean()
            logs["replay"], loss = again.detach(), loss + self.replay * again
        return self.report(loss, n, **logs, **self._said)

    def _enter(self, epoch: int) -> None:
        """Let the old policy follow, and have the rollouts of ``epoch``: read where they are there, else drawn."""
        if 0 <= self._drawn_in < epoch:
            self.old.follow(self.model, min(self.old_rate * self.global_step, self.old_hold))
        self._drawn_in = self._epoch = epoch
        groups = self._groups(epoch)
        found, said = advantages(torch.stack([group.rewards for group in groups]), self.limit)
        fine = torch.isfinite(found)
        # where no caption has a spread only the anchors have something to say
        kept = (fine if bool(fine.any()) else torch.isfinite(torch.stack([g.rewards for g in groups]))).flatten()
        latents = torch.cat([group.latents for group in groups])
        self._latents, self._advantage = latents[kept], found.nan_to_num(0.0).flatten()[kept].float()
        rows = torch.tensor([group.row for group in groups]).repeat_interleave(self.per_prompt)
        self._rows = rows[kept].numpy()
        n, source = len(self._latents), generator(*self._key("times", epoch))
        parts = (torch.arange(self.times) + torch.rand(n, self.times, generator=source)) / self.times
        self._t = self.t_min + (1 - self.t_min) * parts
        self._order = permutation(n * self.times, *self._key("order", epoch))
        spread = self.model.normalize(self._latents.to(self.device)).float().square().mean().sqrt()
        self._said = {name: torch.tensor(value) for name, value in {**said, "rollout_rms": float(spread)}.items()}

    def _batch(self, clips: np.ndarray) -> Batch:
        """Rollouts ``clips`` under their captions and the score that was asked for."""
        store: LatentStore = self.trainer.datamodule.store  # type: ignore[attr-defined]
        rows = self._rows[clips]
        texts = store.prompts(rows.tolist(), [0] * len(rows))
        score = torch.full((len(rows),), float(self.rollout.score or 0.0))
        parts = (self._latents[clips], texts.text, texts.text_c, score, torch.from_numpy(rows))
        mean, text, text_c, score, index = (part.to(self.device) for part in parts)
        return Batch(mean, None, text, text_c, score, index)

    def _groups(self, epoch: int) -> list[Group]:
        """The rollouts of ``epoch``, caption by caption; each process draws whole captions."""
        store: LatentStore = self.trainer.datamodule.store  # type: ignore[attr-defined]
        said = [tensor_digest(self.old.state()), self.rollout.plain(), self.reward.identity, self.seed]
        drawn, rows, world = hash_of(said), self.captions.of(epoch, self.prompts), self.trainer.world_size
        groups: list[Group] = []
        steps, show = range(0, len(rows), world), bool(self.trainer.is_global_zero)
        for first in track(steps, f"rollouts of epoch {epoch}", unit="caption", show=show):
            mine: list[Any] = []
            if first + self.global_rank < len(rows):
                row = rows[first + self.global_rank]
                seeds = self._seeds(epoch, row)
                known = self.folder.read(epoch, row, store.rows[row]["id"], seeds, drawn)
                mine = [(known is None, known or self._draw(store, row, seeds))]
            for new, group in gather(mine):
                groups.append(group)
                if new and self.trainer.is_global_zero:
                    clip = store.rows[group.row]
                    self.folder.write(epoch, clip["id"], clip["caption"], group, drawn, self.reward.identity)
        return groups

    def _seeds(self, epoch: int, row: int) -> list[int]:
        source = np.random.SeedSequence((*self._key("noise", epoch), row)).generate_state(self.per_prompt, np.uint64)
        # a noise seed is a signed integer of 64 bits in a batch
        return [int(seed) >> 2 for seed in source]

    def _key(self, name: str, epoch: int) -> tuple[int, ...]:
        """Of the draws of an epoch that belong to no batch."""
        return self.seed, epoch, *words(f"{self.stream} rollouts: {name}")

    @torch.no_grad()
    def _draw(self, store: LatentStore, row: int, seeds: list[int]) -> Group:
        """The clips of one caption, sampled and rewarded together whatever else there is to draw."""
        prompts = store.prompts([row] * len(seeds), seeds)
        latents = self.rollout.generate(self.old.model, prompts).float()
        return Group(row, seeds, latents.cpu(), self.reward.score(latents, prompts).cpu())
