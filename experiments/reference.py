"""Freeze a reference under a judge: the corpus' own split under CLAP-B, or a folder of audio under any world's CLAP.

``python -m experiments.reference``; the published one: ``--folder SDD-706 --judges published``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from fluxlight.cli import told
from fluxlight.cli.arguments import Arguments
from fluxlight.clips.folders import audio_files
from fluxlight.embedded.corpus import CorpusSpec, build
from fluxlight.encoders.clap_b import ClapB
from fluxlight.evaluation.judges import load_judges
from fluxlight.evaluation.measure import prepare, reference_from_files
from fluxlight.files import atomic_path
from fluxlight.metrics.reference import Reference
from fluxlight.progress import track
from fluxlight.weights.frozen import shipped

BATCH = 10
SHIPPED = shipped("reference.safetensors")
"""What this command makes of the corpus by default, so that a first run need not render 700 clips for it."""


def main(args: Sequence[str] | None = None) -> int:
    """Write the statistics and embeddings of the reference clips under one loudness protocol."""
    parser = Arguments(prog="experiments.reference", description=__doc__)
    parser.add_argument("--clips", type=int, default=700, help="reference clips (the published SDD-706 has 706)")
    parser.add_argument("--jobs", type=int, default=2, help="processes that render what the cache lacks, or listen")
    parser.add_argument("--loudness", choices=("locked", "delivered"), default="locked", help="protocol (locked)")
    parser.add_argument("--shipped", action="store_true", help="take the one that is shipped: 700 clips, locked")
    parser.add_argument("--folder", type=Path, help="audio files in place of the corpus; of each its centre 10 s")
    parser.add_argument("--judges", default="embedded", metavar="WORLD", help="whose CLAP listens to the folder")
    parser.add_argument("--out", required=True, help="statistics file (.safetensors)")
    given = parser.parse_args(args)
    if given.folder is None and given.judges != "embedded":
        raise ValueError(f"--judges {given.judges} needs --folder: the corpus is heard by its own judge")
    if given.shipped:
        with atomic_path(given.out) as temporary:
            temporary.write_bytes(checked(SHIPPED).read_bytes())
        return 0
    made = _of_corpus(given) if given.folder is None else _of_folder(given)
    made.save(given.out)
    return 0


def checked(path: Path) -> Path:
    """A reference file, if the judge of today has made it."""
    found, judge = Reference.load(path).embedder, ClapB().identity
    if found != judge:
        raise ValueError(f"{path} was made by {found}, the judge is {judge}: make it anew, without --shipped")
    return path


def _of_folder(given: argparse.Namespace) -> Reference:
    files = audio_files(given.folder)
    clap = next(iter(load_judges(given.judges).claps.values()))
    return reference_from_files(files, clap, given.loudness, given.folder.resolve().name, given.jobs, True)


def _of_corpus(given: argparse.Namespace) -> Reference:
    audio, clap = build(CorpusSpec(sizes={"reference": given.clips}), jobs=given.jobs).audio("reference"), ClapB()

    def embed(start: int) -> torch.Tensor:
        clips = [prepare(clip, 44_100, given.loudness) for clip in audio[start : start + BATCH]]
        return clap.embed_audio(torch.from_numpy(np.stack(clips)), 44_100)

    starts, threads = range(0, given.clips, BATCH), torch.get_num_threads()
    # several batches at once, each on one thread: small tensors do not fill two, and sums depend on their number
    with ThreadPoolExecutor(given.jobs, "reference", torch.set_num_threads, (1,)) as pool:
        done = pool.map(embed, starts)
        parts = list(track(done, f"reference of {given.clips} clips", len(starts), "batch"))
    torch.set_num_threads(threads)
    return Reference.from_embeddings(torch.cat(parts), clap.identity, 44_100, "reference", loudness=given.loudness)


if __name__ == "__main__":
    raise SystemExit(told(main, "experiments.reference"))
