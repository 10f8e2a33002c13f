"""Generator: a model with its codec, encoders, sampler and post-processing: prompts in, clips out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fluxlight.bundle import Which, load_bundle, read_recipe
from fluxlight.clips.candidates import NOT_FINITE
from fluxlight.codec import Codec
from fluxlight.encoders import TextAudioModel, TextEncoder
from fluxlight.generate.parts import describe, refuse_strangers
from fluxlight.generate.pipeline import Pipeline, check_origin, find_bundle, plain_sampler, read_pipeline
from fluxlight.generate.prompts import seeds_of
from fluxlight.generate.take import Take
from fluxlight.model import FluxModel
from fluxlight.postprocess import LockedLoudness, PostProcess, process_many
from fluxlight.prompts import Prompt, is_empty, one_warning, worded
from fluxlight.recorded import class_path
from fluxlight.render import Renderer
from fluxlight.rewards import Reward
from fluxlight.sample import Progress, Sampler
from fluxlight.types import Clip, PromptBatch


class Generator:
    """Makes clips from prompts. Needs no Lightning.

    Args:
        model: backbone and head with their weights.
        codec: the one whose latents the model was trained on.
        text: text -> tokens.
        clap: text -> global embedding.
        sampler: settings of sampling; the score is left out for a model without a head.
        postprocess: done to every clip that is kept, in order.
        prefix, suffix: put around every prompt that is not empty.
        reward: makes the default reward of best-of-N, when it is first asked for.
        checkpoint: name of the weights in every result.
        device: where model and codec compute; noise comes from the CPU, so it is the same everywhere.
    """

    def __init__(
        self,
        model: FluxModel,
        codec: Codec,
        text: TextEncoder,
        clap: TextAudioModel,
        sampler: Sampler = Sampler(),  # noqa: B008 (frozen)
        postprocess: Sequence[PostProcess] = (),
        prefix: str = "",
        suffix: str = "",
        reward: Callable[[], Reward] | None = None,
        checkpoint: str = "",
        device: str | torch.device = "cpu",
    ) -> None:
        backbone = model.backbone
        for part, name, found, wanted in (
            (codec, "latent_dim", codec.latent_dim, backbone.latent_dim),
            (codec, "latent_len", codec.latent_len, backbone.latent_seq_len),
            (text, "dim", text.dim, backbone.text_dim),
            (text, "length", text.length, backbone.text_seq_len),
            (clap, "dim", clap.dim, backbone.text_c_dim),
        ):
            if found != wanted:
                raise ValueError(
                    f"{type(part).__name__} has {name} {found}, the model wants {wanted}: use the part it was "
                    "trained with"
                )
        self.device = torch.device(device)
        self.model, self.codec = model.eval().to(self.device), codec.eval().to(self.device)
        self.text, self.clap = text.eval().to(self.device), clap.eval().to(self.device)
        self.postprocess, self.checkpoint = list(postprocess), checkpoint
        self.prefix, self.suffix = prefix, suffix
        self.sampler = sampler if model.head is not None else replace(sampler, score=None)
        self._make_reward, self.negative = reward, ""

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        weights: Which = "raw",
        device: str | torch.device = "cpu",
        trust: Sequence[str] = (),
    ) -> Generator:
        """The generator of a model folder, a bundle, or a run folder with a bundle in it.

        Args:
            folder: where it is.
            weights: raw or averaged ones.
            device: where it computes.
            trust: packages beside fluxlight that the folder may name classes of; their code is run.

        Raises:
            FileNotFoundError: no bundle there, or a part's weights are missing.
            ValueError: the folder names code of a stranger, or a part is not the one the model was trained with.
        """
        folder = find_bundle(folder)
        recipe = read_recipe(folder)
        check_origin(recipe, trust)
        pipeline = read_pipeline(folder)
        for part, _, _ in pipeline.parts:
            # before any of them is imported
            refuse_strangers(part.class_path, trust)
        return cls.assembled(load_bundle(folder, weights), pipeline, recipe["hash"][weights], device, trust)

    @classmethod
    def assembled(
        cls,
        model: FluxModel | Callable[[Codec], FluxModel],
        pipeline: Pipeline,
        checkpoint: str,
        device: str | torch.device = "cpu",
        trust: Sequence[str] = (),
    ) -> Generator:
        """The generator of a model and the parts that a pipeline names; what makes a model is given the codec."""
        made = {id(part): partial(part.make, base, trust, within) for part, base, within in pipeline.parts}
        steps = [made[id(step)]() for step in pipeline.postprocess]
        for step in steps:
            if hasattr(step, "device"):
                step.device = str(device)
        codec = made[id(pipeline.codec)]()
        return cls(
            model if isinstance(model, FluxModel) else model(codec),
            codec,
            made[id(pipeline.text)](),
            made[id(pipeline.clap)](),
            pipeline.sampler,
            steps,
            pipeline.prefix,
            pipeline.suffix,
            None if pipeline.reward is None else made[id(pipeline.reward)],
            checkpoint,
            device,
        )

    @classmethod
    def from_pretrained(cls, name: str | Path, revision: str | None = None, **settings: Any) -> Generator:
        """The generator of a model folder here, or of one on the Hugging Face hub.

        Args:
            name: a folder, or ``user/name`` (``hf://user/name``) of a hub repository, which is fetched into the cache.
            revision: branch, tag or commit on the hub.
            settings: see `from_folder`.
        """
        if not str(name).startswith("hf://") and Path(name).exists():
            return cls.from_folder(name, **settings)
        from fluxlight.generate.hub import fetch

        return cls.from_folder(fetch(str(name).removeprefix("hf://"), revision), **settings)

    def set_sampler(self, **changes: Any) -> None:
        """Change settings of sampling, e.g. ``steps=50, score=2.0``."""
        if changes.get("score") is not None and self.model.head is None:
            raise ValueError(f"score is {changes['score']:g}, but this model has no score head: leave score out")
        self.sampler = replace(self.sampler, **changes)

    def set_negative(self, text: str) -> None:
        """Let guidance lead away from another text, read as it stands; from the stored empty one where it is empty."""
        self.negative = text.strip()
        self.set_sampler(negative="empty" if is_empty(text) else "stored")
        if not is_empty(text):
            self.model.set_negative(*(features[0] for features in self._encode([text])))

    def reward(self) -> Reward:
        """The default reward of best-of-N."""
        if self._make_reward is None:
            raise ValueError("this model folder names no reward: choose one for best-of-N")
        return self._make_reward()

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but prompt, seed and weights that a clip depends on, as plain values."""
        return {
            "head": None if self.model.head is None else class_path(self.model.head),
            "sampler": plain_sampler(self.sampler),
            "codec": self.codec.identity,
            "text": self.text.identity,
            "clap": self.clap.identity,
            "prefix": self.prefix,
            "suffix": self.suffix,
            **({"negative": self.negative} if self.negative else {}),
            "postprocess": [describe(step) for step in self.postprocess],
        }

    def __call__(
        self,
        prompts: str | Sequence[str],
        seed: int = 42,
        batch_size: int = 8,
        best_of: int = 1,
        reward: Reward | None = None,
        progress: Progress | None = None,
    ) -> list[Clip]:
        """One clip a prompt.

        Args:
            prompts: texts; an empty one is the empty text the model was trained with.
            seed: prompt i has noise seed ``seed + i`` (FACTS section 4), its candidate j ``j * prompts`` more.
            batch_size: clips at a time: speed and memory, not the result.
            best_of: candidates of a prompt; the one with the highest reward is kept.
            reward: of best-of-N; the model's own by default.
            progress: called with solver steps done and in all.

        Raises:
            ValueError: a clip is not finite.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        asked = [Prompt(str(i), text) for i, text in enumerate(texts)]
        judge = None if best_of == 1 and reward is None else reward or self.reward()
        with one_warning(len(asked), self.text.length):
            takes = self.takes(asked, seeds_of(len(asked), seed, best_of), batch_size, judge, progress)
        for take in takes:
            if take.error:
                raise ValueError(f"prompt {take.clip.prompt!r}: {take.error}")
        return [take.clip for take in takes]

    @torch.no_grad()
    def takes(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        batch_size: int = 8,
        reward: Reward | None = None,
        progress: Progress | None = None,
    ) -> list[Take]:
        """One take a prompt: the best of the candidates with the given noise seeds.

        Args:
            prompts: ids and texts.
            seeds: noise seeds of the candidates of each prompt.
            batch_size: clips at a time.
            reward: judges candidates; may be None when every prompt has one.
            progress: called with solver steps done and in all.
        """
        if reward is None and any(len(own) != 1 for own in seeds):
            raise ValueError("several candidates of a prompt need a reward to choose by: give one")
        if not prompts:
            return []
        if reward is not None:
            reward.to(self.device)
        text, text_c = self._encode(worded([p.prompt for p in prompts], self.prefix, self.suffix))
        rows = [i for i, own in enumerate(seeds) for _ in own]
        flat = torch.tensor([seed for own in seeds for seed in own])
        batch = PromptBatch(
            [prompts[i].id for i in rows], [prompts[i].prompt for i in rows], text[rows], text_c[rows], flat
        )
        latents = self.sampler.generate(self.model, batch, batch_size, progress)
        parts = latents.split([len(own) for own in seeds])
        found = [
            self._best(prompt, list(own), part, reward) for prompt, own, part in zip(prompts, seeds, parts, strict=True)
        ]
        fine = [take for take in found if not take.error]
        for take, clip in zip(fine, process_many([take.clip for take in fine], self.postprocess), strict=True):
            take.clip = clip
        return found

    def _best(self, prompt: Prompt, seeds: list[int], latents: Tensor, reward: Reward | None) -> Take:
        """Decode candidates ``(N, L, D)`` of one prompt one by one and keep the best, as decoded."""
        best: Clip | None = None
        scores: list[float] = []
        chosen = 0
        for k, latent in enumerate(latents):
            wave = Renderer(self.codec, device=self.device).decode(latent[None])[0]
            score = -math.inf
            if bool(torch.isfinite(wave).all()):
                clip = Clip(prompt.id, wave, self.codec.sample_rate, prompt.prompt)
                score = 0.0 if reward is None else self._score(clip, reward)
                if best is None or score > max(scores):
                    best, chosen = clip, k
            scores.append(score)
        said = scores if reward is not None else []
        if best is None:
            nothing = Clip(prompt.id, torch.zeros(0), self.codec.sample_rate, prompt.prompt)
            return Take(nothing, seeds[0], seeds, said, NOT_FINITE)
        return Take(best, seeds[chosen], seeds, said)

    def _score(self, clip: Clip, reward: Reward) -> float:
        """Reward of a clip at the loudness of comparisons, as `fluxlight score` gives it."""
        heard = LockedLoudness()(clip)
        return float(reward.score(heard.audio[None].to(self.device), heard.sample_rate, [heard.prompt])[0])

    @torch.no_grad()
    def _encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Features ``(B, T, E)`` and ``(B, C)`` of texts; the sampler puts in those of an empty one."""
        # half precision is what a store keeps, and so what the model was trained and its slice rendered with
        return self.text.encode(texts).half().float(), self.clap.embed_text(texts).float()
