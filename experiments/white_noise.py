"""White noise for every prompt: a floor that any music must beat. ``python -m experiments.white_noise``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fluxlight.cli import told
from fluxlight.cli.arguments import Arguments
from fluxlight.clips.write import write_audio
from fluxlight.postprocess import Loudness
from fluxlight.prompts import read_prompts
from fluxlight.types import Clip

SAMPLE_RATE, SAMPLES = 44_100, 441_000


def main(args: Sequence[str] | None = None) -> int:
    """Write ``<out>/<id>.wav``: clip i is Gaussian noise of seed + i under the delivery rule."""
    parser = Arguments(prog="experiments.white_noise", description=__doc__)
    parser.add_argument("--prompts", required=True, help="prompts file or prompt store")
    parser.add_argument("--seed", type=int, default=42, help="seed of the first prompt")
    parser.add_argument("--out", type=Path, required=True, help="folder of clips")
    given = parser.parse_args(args)
    for position, prompt in enumerate(read_prompts(given.prompts)):
        noise = torch.randn(SAMPLES, generator=torch.Generator().manual_seed(given.seed + position))
        clip = Loudness()(Clip(prompt.id, 0.1 * noise, SAMPLE_RATE))
        write_audio(given.out / f"{prompt.id}.wav", clip.audio, SAMPLE_RATE)
    return 0


if __name__ == "__main__":
    raise SystemExit(told(main, "experiments.white_noise"))
