"""``fluxlight select``: experts or preference pairs among scored candidates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fluxlight.cli.arguments import Arguments
from fluxlight.files import claimed, read_jsonl, write_jsonl
from fluxlight.mining.select import read_ids, select_experts, select_pairs, usable


def main(args: Sequence[str] | None = None) -> int:
    """`fluxlight select experts|pairs`: scores.jsonl -> experts.jsonl or pairs.jsonl."""
    parser = Arguments(prog="fluxlight select", description=__doc__.split("\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    experts = kinds.add_parser("experts", help="top share by the blend of z-scored reward and CLAP")
    experts.add_argument("--weight_reward", type=float, default=0.5, help="weight of the z-scored reward")
    experts.add_argument("--weight_clap", type=float, default=0.5, help="weight of the z-scored CLAP similarity")
    experts.add_argument("--top", type=float, default=0.1, help="share that is kept")
    pairs = kinds.add_parser("pairs", help="highest against lowest score of each prompt")
    pairs.add_argument("--key", default="clap", help="score column that ranks (clap or reward)")
    pairs.add_argument("--margin", type=float, default=0.0, help="leave out pairs that differ by no more than this")
    for kind in (experts, pairs):
        kind.add_argument("--candidates", type=Path, required=True, help="candidates folder with scores.jsonl")
        kind.add_argument("--slice", type=Path, required=True, help="evaluation slice whose ids are refused")
        kind.add_argument("--name", help="file to write in the candidates folder (default: experts.jsonl, pairs.jsonl)")
    given = parser.parse_args(args)
    scores = given.candidates / "scores.jsonl"
    if not scores.is_file():
        raise FileNotFoundError(f"{scores} is missing: run `fluxlight score --candidates {given.candidates}` first")
    rows, forbidden = read_jsonl(scores), read_ids(given.slice)
    # beside the candidates, because the paths in the rows are relative to that folder
    out = given.candidates / (given.name or f"{given.kind}.jsonl")
    if given.kind == "experts":
        chosen = select_experts(rows, given.weight_reward, given.weight_clap, given.top, forbidden)
    else:
        chosen = select_pairs(rows, given.key, given.margin, forbidden)
    with claimed(given.candidates):
        write_jsonl(out, chosen)
    columns = ("reward", "clap") if given.kind == "experts" else (given.key,)
    failed = sum(bool(row.get("error")) for row in rows)
    unscored = sum(not row.get("error") and not usable([row], *columns) for row in rows)
    said = f"{failed} failed" + (f", {unscored} without a finite score" if unscored else "")
    print(f"{len(chosen)} {given.kind} of {len(rows)} scored candidates ({said}) -> {out}")
    return 0
