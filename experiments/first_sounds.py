"""The first sounds of a chain: real clips of the slice, and what the codec makes of them. ``experiments.first_sounds``.

Nothing a model makes can sound better than the second: it is the ceiling of every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fluxlight.cli import told
from fluxlight.cli.arguments import Arguments, within
from fluxlight.clips.write import write_audio
from fluxlight.codec import EmbeddedCodec
from fluxlight.data.sources import CorpusSplit
from fluxlight.files import write_json
from fluxlight.postprocess import Loudness
from fluxlight.progress import track
from fluxlight.types import Clip


def main(args: Sequence[str] | None = None) -> int:
    """Write ``real/<id>.wav``, ``round_trip/<id>.wav`` (both under the delivery rule) and ``prompts.json``."""
    parser = Arguments(prog="experiments.first_sounds", description=__doc__)
    parser.add_argument("--clips", type=within(1), default=12, help="the first so many clips of the slice (12)")
    parser.add_argument("--out", type=Path, required=True, help="folder of both folders")
    given = parser.parse_args(args)
    # they are rendered here where the corpus is not there yet: something is heard before thousands of clips are made
    source, codec, loudness = CorpusSplit("slice", clips=given.clips), EmbeddedCodec(), Loudness()
    for k, row in enumerate(track(source.rows, "real clips and their round trip", unit="clip")):
        real = source.audio(k, k + 1)
        with torch.no_grad():
            made = codec.decode(codec.encode(real)[0])
        for name, audio in (("real", real[0]), ("round_trip", made[0])):
            clip = loudness(Clip(row["id"], audio, codec.sample_rate, row["caption"]))
            write_audio(given.out / name / f"{row['id']}.wav", clip.audio, codec.sample_rate)
    write_json(given.out / "prompts.json", [{"id": row["id"], "prompt": row["caption"]} for row in source.rows])
    return 0


if __name__ == "__main__":
    raise SystemExit(told(main, "experiments.first_sounds"))
