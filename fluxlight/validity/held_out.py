"""Held out: what judges say of a handful of clips in memory, the driving ones apart from those that only judge."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor

from fluxlight.clips.write import as_written
from fluxlight.evaluation.judging import Judges, embed_texts, prepare
from fluxlight.files import atomic_path
from fluxlight.render import Rendered

PROTOCOL = "locked"
"""Loudness at which a guard's judges hear: that of the tables."""


@dataclass
class Heard:
    """What was said of n clips, in the order of their prompts.

    Attributes:
        scores: judge -> ``(n,)``, NaN where a clip is not finite.
        embeddings: ``(n, d)`` of the first CLAP, which is not optimised on; NaN likewise.
    """

    scores: dict[str, np.ndarray] = field(default_factory=dict)
    embeddings: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def fine(self) -> np.ndarray:
        """Which clips were judged ``(n,)`` bool."""
        return np.isfinite(self.embeddings).all(axis=1)


def hear(rows: Sequence[Rendered], judges: Judges, sample_rate: int, batch_size: int = 8) -> Heard:
    """Judge rendered clips at the loudness of the tables, as they would be written.

    Args:
        rows: the clips.
        judges: of the world; their first CLAP embeds.
        sample_rate: Hz of the clips.
        batch_size: clips a judge hears at a time.
    """
    fine = [k for k, row in enumerate(rows) if not row.error]
    waves = [torch.from_numpy(prepare(as_written(rows[k].clip.audio).numpy(), sample_rate, PROTOCOL)) for k in fine]
    prompts = [rows[k].clip.prompt for k in fine]
    parts = [slice(start, start + batch_size) for start in range(0, len(fine), batch_size)]
    found = Heard()

    def of_all(values: list[Tensor]) -> np.ndarray:
        joined = torch.cat([value.detach().cpu().double() for value in values]).numpy() if values else np.empty((0, 1))
        out = np.full((len(rows), *joined.shape[1:]), np.nan)
        out[fine] = joined
        return out

    with torch.no_grad():
        for name, clap in judges.claps.items():
            said = [clap.embed_audio(torch.stack(waves[part]), sample_rate) for part in parts]
            audio = of_all(said)
            text = np.full_like(audio, np.nan)
            if fine:
                text[fine] = embed_texts(prompts, clap)
            found.scores[name] = (audio * text).sum(axis=1)
            if not found.embeddings.size:
                found.embeddings = audio
        for name, reward in judges.rewards.items():
            said = [reward.score(torch.stack(waves[part]), sample_rate, prompts[part]) for part in parts]
            found.scores[name] = of_all(said)
    return found


def save(path: str | os.PathLike[str], heard: Heard, more: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    """Write what was heard, further arrays and what they are of, atomically."""
    arrays = {f"score.{name}": value for name, value in heard.scores.items()} | {"embeddings": heard.embeddings}
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(value) for name, value in {**arrays, **more}.items()}, temporary,
                  dict(about))  # fmt: skip


def load(path: str | os.PathLike[str]) -> tuple[Heard, dict[str, np.ndarray], dict[str, str]]:
    """What `save` wrote."""
    with safe_open(path, "numpy") as file:
        arrays, about = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())
    scores = {name.removeprefix("score."): value for name, value in arrays.items() if name.startswith("score.")}
    rest = {name: value for name, value in arrays.items() if not name.startswith("score.") and name != "embeddings"}
    return Heard(scores, arrays["embeddings"]), rest, about
