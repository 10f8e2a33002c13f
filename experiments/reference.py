"""Freeze the reference split of the corpus under the judge CLAP-B. ``python -m experiments.reference``"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch

from fluxlight.embedded.corpus import CorpusSpec, build
from fluxlight.encoders.clap_b import ClapB
from fluxlight.metrics.measure import prepare
from fluxlight.metrics.reference import Reference

BATCH = 10


def main(args: Sequence[str] | None = None) -> int:
    """Write the statistics and embeddings of the reference clips under one loudness protocol."""
    from tqdm import tqdm

    parser = argparse.ArgumentParser(prog="experiments.reference", description=__doc__)
    parser.add_argument("--clips", type=int, default=700, help="reference clips (the published SDD-706 has 706)")
    parser.add_argument("--jobs", type=int, default=2, help="processes that render what the cache lacks")
    parser.add_argument("--loudness", choices=("locked", "delivered"), default="locked", help="protocol (locked)")
    parser.add_argument("--out", required=True, help="statistics file (.safetensors)")
    given = parser.parse_args(args)
    audio, clap = build(CorpusSpec(sizes={"reference": given.clips}), jobs=given.jobs).audio("reference"), ClapB()
    parts = []
    starts = range(0, given.clips, BATCH)
    for start in tqdm(starts, desc=f"reference of {given.clips} clips", unit="batch", disable=None):
        clips = [prepare(clip, 44_100, given.loudness) for clip in audio[start : start + BATCH]]
        parts.append(clap.embed_audio(torch.from_numpy(np.stack(clips)), 44_100))
    Reference.from_embeddings(torch.cat(parts), clap.identity, 44_100, "reference", loudness=given.loudness).save(
        given.out
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
