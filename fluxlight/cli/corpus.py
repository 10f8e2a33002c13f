"""``fluxlight corpus``: render splits of the embedded corpus into the cache folder. Resumable shard by shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fluxlight.cli.arguments import Arguments, within
from fluxlight.embedded.corpus.build import Corpus, build
from fluxlight.embedded.corpus.spec import CorpusSpec
from fluxlight.embedded.corpus.tunes import SPLITS
from fluxlight.files import write_json


def describe(corpus: Corpus) -> dict[str, Any]:
    """What a corpus holds, as plain values: sizes, checksum, genres, faults."""
    rows = [row for split in corpus.splits for row in corpus.rows(split)]
    return {
        "spec": corpus.spec.hash,
        "version": corpus.spec.version,
        "seed": corpus.spec.seed,
        "sizes": {split: len(corpus.rows(split)) for split in corpus.splits},
        "checksum": corpus.checksum,
        "genres": len({row.genre for row in rows}),
        "tunes": len({row.tune for row in rows}),
        "faults": dict(sorted(Counter(row.fault or "none" for row in rows).items())),
    }


def main(args: Sequence[str] | None = None) -> int:
    """Render what is missing, then say what is there."""
    parser = Arguments(prog="fluxlight corpus", description=__doc__)
    for split in SPLITS:
        parser.add_argument(f"--{split}", type=within(0), default=0, metavar="CLIPS", help=f"clips of {split}")
    parser.add_argument("--seed", type=within(0), default=0, help="seed of everything random (0)")
    parser.add_argument("--jobs", type=within(1), default=2, help="processes (2)")
    parser.add_argument("--folder", help="where corpora are cached (default: corpus in the cache folder)")
    parser.add_argument("--out", type=Path, help="JSON to write: sizes, checksum, genres, faults")
    given = parser.parse_args(args)
    sizes = {split: getattr(given, split) for split in SPLITS if getattr(given, split)}
    if not sizes:
        raise ValueError("no clips asked for: give a size for at least one split, for instance --train 2400")
    corpus = build(CorpusSpec(seed=given.seed, sizes=sizes), given.folder, given.jobs)
    said = describe(corpus)
    if given.out:
        write_json(given.out, said)
    print(", ".join(f"{split} {count}" for split, count in said["sizes"].items()) + f" clips in {corpus.folder}")
    return 0
