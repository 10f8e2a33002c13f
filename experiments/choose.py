"""Select among candidates that are somebody else's: the selection goes to a folder of its own beside links to them.

``python -m experiments.choose --candidates RUN/experts --out DIR -- experts --slice RUN/slice --top 0.2``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fluxlight.cli import select, told
from fluxlight.cli.arguments import Arguments
from fluxlight.files import read_jsonl, write_jsonl


def first_clips(rows: Sequence[dict[str, object]], kept: int) -> list[dict[str, object]]:
    """The ``kept`` candidates with the smallest noise seeds of every prompt, in the order of the rows."""
    seeds: dict[str, list[int]] = {}
    for row in rows:
        seeds.setdefault(str(row["id"]), []).append(int(str(row["seed"])))
    allowed = {id: set(sorted(found)[:kept]) for id, found in seeds.items()}
    if short := [id for id, found in seeds.items() if len(found) < kept]:
        raise ValueError(f"per_prompt is {kept}, but {len(short)} prompts have fewer candidates: predict more")
    return [row for row in rows if int(str(row["seed"])) in allowed[str(row["id"])]]


def main(args: Sequence[str] | None = None) -> int:
    """Link the candidates, keep so many of each prompt, then run ``fluxlight select`` with the rest of the words."""
    parser = Arguments(prog="experiments.choose", description=__doc__.split("\n")[0])
    parser.add_argument("--candidates", type=Path, required=True, help="folder with scores.jsonl and latents")
    parser.add_argument("--out", type=Path, required=True, help="folder of the selection")
    parser.add_argument("--per_prompt", type=int, help="keep only so many candidates of a prompt")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="-- then what `fluxlight select` takes")
    given = parser.parse_args(args)
    scores = given.candidates / "scores.jsonl"
    if not scores.is_file():
        raise FileNotFoundError(f"{scores} is missing: run `fluxlight score --candidates {given.candidates}` first")
    given.out.mkdir(parents=True, exist_ok=True)
    link = given.out / "latents"
    link.unlink(missing_ok=True)
    link.symlink_to((given.candidates / "latents").resolve(), target_is_directory=True)
    rows = read_jsonl(scores)
    write_jsonl(given.out / "scores.jsonl", first_clips(rows, given.per_prompt) if given.per_prompt else rows)
    words = [word for word in given.words if word != "--"]
    return select.main([words[0], "--candidates", str(given.out), *words[1:]])


if __name__ == "__main__":
    raise SystemExit(told(main, "experiments.choose"))
