"""Sampling: prompts, scores and seeds -> latents. Solvers take any velocity; noise takes nothing but a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from fluxlight.guidance import Guidance, WeightSchedule, guide
from fluxlight.guidance.second import Second
from fluxlight.model import FluxModel
from fluxlight.prompts import is_empty
from fluxlight.solvers import find_solver
from fluxlight.types import Condition, PromptBatch, Velocity

Progress = Callable[[int, int], None]
"""Called with (solver steps done, steps in all) over the whole of a `Sampler.generate`."""


def noise(seeds: Tensor | Sequence[int], length: int, dim: int) -> Tensor:
    """Standard normal ``(B, length, dim)``, each row from its own CPU generator with that row's seed ``(B,)``.

    The same on every device, for any batch size and any number of processes.
    """
    rows = [torch.randn(length, dim, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    return torch.stack(rows) if rows else torch.empty(0, length, dim)


def grid(steps: int, start: float = 1.0, stop: float = 0.0) -> list[float]:
    """``steps`` + 1 equally spaced times from ``start`` (noise) to ``stop`` (data), as fp32 holds them."""
    return torch.linspace(start, stop, steps + 1).tolist()


@dataclass(frozen=True)
class Sampler:
    """Settings of sampling; the defaults are the published inference (FACTS section 4).

    Attributes:
        steps: solver steps from noise to data.
        method: "euler", "heun", or the import path of a solver like them.
        cfg_weight: guidance weight over text and score together, or over the text when ``score_weight`` is given.
        score: score to ask for, the same for every prompt; None is the null score.
        score_weight: a guidance weight of its own for the score, None for the joint guidance.
        schedule: how the weights depend on time: "constant", "anneal" or "interval".
        interval: times between which "interval" guides.
        negative: the other branch's text: "stored" negative text (empty when none is stored) or "empty".
        second: another checkpoint that takes part, by crossover or average; None samples with the model alone.
        negative_score: score of the other branch; None is the null score, as published. A low one makes the score an
            axis of the guidance.
        guidance: kind of the guidance, any of `fluxlight.guidance`; None is `Joint`, or `Separate` where there is a
            ``score_weight``. The weights above and their schedule go with every kind.
    """

    steps: int = 25
    method: str = "euler"
    cfg_weight: float = 4.0
    score: float | None = 5.0
    score_weight: float | None = None
    schedule: Literal["constant", "anneal", "interval"] = "constant"
    interval: tuple[float, float] = (0.0, 1.0)
    negative: Literal["stored", "empty"] = "stored"
    second: Second | None = None
    negative_score: float | None = None
    guidance: Guidance | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}: at least 1 is needed")
        find_solver(self.method)
        if self.negative not in ("stored", "empty"):
            raise ValueError(f"negative is {self.negative!r}: use stored or empty")
        for name in ("cfg_weight", "score", "score_weight", "negative_score"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} is {value}, which is non-finite: give a number")
        if self.guidance is not None and self.score_weight is not None and not self.guidance.has_score_weight:
            kind = type(self.guidance).__name__
            raise ValueError(f"score_weight is {self.score_weight:g}, but guidance {kind} has one weight: set it null")
        WeightSchedule(self.schedule, self.interval)

    def plain(self) -> dict[str, Any]:
        """The settings as plain values. What came after the first release is left out where it is not set."""
        settings = asdict(replace(self, guidance=None))
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
        plain["guidance"] = self.guidance.plain() if self.guidance else None
        later = ("negative_score", "guidance")
        return {name: value for name, value in plain.items() if value is not None or name not in later}

    def velocity(
        self, model: FluxModel, condition: Condition, score: Tensor | float | None, texts: FluxModel | None = None
    ) -> Velocity:
        """The guided velocity of ``model`` under these settings; ``texts`` has the other branch's text, if not it."""
        n, texts = condition.text.shape[0], texts or model
        negative = texts.negative_condition(n) if self.negative == "stored" else texts.empty_condition(n)
        return guide(
            model, condition, score, self.cfg_weight, negative, WeightSchedule(self.schedule, self.interval),
            guidance=self.guidance, score_weight=self.score_weight, negative_score=self.negative_score,
        )  # fmt: skip

    @torch.no_grad()
    def generate(
        self,
        model: FluxModel,
        prompts: PromptBatch,
        batch_size: int | None = None,
        progress: Progress | None = None,
        scores: Tensor | None = None,
        second: FluxModel | None = None,
        combine: Callable[[Velocity, Velocity], Velocity] | None = None,
    ) -> Tensor:
        """Latents ``(B, L, D)`` in codec units, on the model's device, in the prompts' order.

        An empty prompt is rendered with the model's stored features of the empty text, whatever its features are.

        Args:
            model: the model.
            prompts: text features and noise seeds.
            batch_size: clips at a time; all when None. It changes speed and memory, not the result.
            progress: called after every solver step.
            scores: one score per prompt ``(B,)`` in place of ``self.score``.
            second: another checkpoint over the same latents, in place of ``self.second``.
            combine: what becomes of the two guided velocities: `guidance.checkpoints.Crossover` or `Average`.
        """
        total, device, backbone = len(prompts.seed), model.device, model.backbone
        if second is None and combine is None and self.second is not None:
            second, combine = self.second.load(device), self.second.combined
        if (second is None) != (combine is None):
            raise ValueError("second and combine belong together: give both (two checkpoints) or neither")
        if second is not None and not _same_latents(model, second):
            raise ValueError("the second checkpoint has other latent statistics: both must be trained on one codec")
        size = batch_size or max(total, 1)
        starts, done, solve = range(0, total, size), 0, find_solver(self.method)

        def count() -> None:
            nonlocal done
            done += 1
            if progress:
                progress(done, len(starts) * self.steps)

        parts = []
        for start in starts:
            rows = slice(start, start + size)
            condition = Condition(prompts.text[rows].to(device).float(), prompts.text_c[rows].to(device).float())
            worded = [not is_empty(prompt) for prompt in prompts.prompt[rows]]
            if not all(worded):
                condition = model.drop_text(condition, torch.tensor(worded, device=device))
            score = self.score if scores is None else scores[rows]
            velocity = self.velocity(model, condition, score)
            if second is not None and combine is not None:
                # both checkpoints are asked the same: prompts, empty and negative text are the model's
                velocity = combine(velocity, self.velocity(second, condition, score, model))
            x = noise(prompts.seed[rows], backbone.latent_seq_len, backbone.latent_dim).to(device)
            parts.append(model.unnormalize(solve(velocity, x, grid(self.steps), count)))
        empty = torch.empty(0, backbone.latent_seq_len, backbone.latent_dim, device=device)
        return torch.cat(parts) if parts else empty


def _same_latents(first: FluxModel, second: FluxModel) -> bool:
    a, b = first.backbone, second.backbone
    return torch.equal(a.latent_mean, b.latent_mean) and torch.equal(a.latent_std, b.latent_std)
