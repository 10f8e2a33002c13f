"""Decode rendered latents again and post-process them otherwise: the same music, another delivery.

``python -m experiments.deliver --rendered RUN/row4/slice --out DIR --step loudness``
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fluxlight.cli import told
from fluxlight.cli.arguments import Arguments
from fluxlight.clips.candidates import load_latents, open_folder, read_candidates
from fluxlight.postprocess import Loudness, PostProcess, Separate
from fluxlight.progress import track
from fluxlight.render import Renderer
from fluxlight.weights import weights_folder

BATCH = 10
STEPS = ("demucs", "loudness")


def steps_of(names: Sequence[str]) -> list[PostProcess]:
    """Post-processing by name; Demucs without its weights is an error: an ablation must not leave it out unnoticed."""
    made: list[PostProcess] = []
    for name in names:
        if name not in STEPS:
            raise ValueError(f"step {name!r}: choose among {', '.join(STEPS)}")
        if name == "demucs":
            folder = weights_folder() / "mdx_extra"
            if not Separate.present(folder):
                raise FileNotFoundError(
                    f"Demucs is not in {folder}: put mdx_extra.yaml and the .th files it names there"
                )
            made.append(Separate(folder=str(folder)))
        else:
            made.append(Loudness())
    return made


def main(args: Sequence[str] | None = None) -> int:
    """Write the clips in the format of a rendered folder; what is there already is kept."""
    from fluxlight.codec import EmbeddedCodec

    parser = Arguments(prog="experiments.deliver", description=__doc__.split("\n")[0])
    parser.add_argument("--rendered", type=Path, required=True, help="folder a run has rendered (with latents)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new clips")
    parser.add_argument("--step", action="append", default=[], help=f"in order, among {', '.join(STEPS)}; none: raw")
    parser.add_argument("--clips", type=int, help="only the first so many prompts")
    given = parser.parse_args(args)
    steps, codec = steps_of(given.step), EmbeddedCodec()
    rows = sorted(read_candidates(given.rendered), key=lambda row: row.seed)[: given.clips]
    if other := next(
        (row.extra["codec"] for row in rows if row.extra.get("codec", codec.identity) != codec.identity), ""
    ):
        raise ValueError(f"{given.rendered} was rendered by {other}, the codec here is {codec.identity}")
    done, renderer = open_folder(given.out), Renderer(codec, steps)
    for start in track(range(0, len(rows), BATCH), "delivering", unit="batch"):
        batch = rows[start : start + BATCH]
        latents = torch.from_numpy(load_latents(given.rendered, batch))
        made = renderer.render([row.id for row in batch], [row.prompt for row in batch], latents)
        for row, one in zip(batch, made, strict=True):
            one.clip.notes = one.clip.notes or ["raw"]
            kept = {**row.extra, "postprocess": given.step}
            renderer.write(given.out, [one], [row.seed], row.checkpoint, kept, done)
    return 0


if __name__ == "__main__":
    raise SystemExit(told(main, "experiments.deliver"))
