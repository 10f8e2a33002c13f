"""``fluxlight select``: experts or preference pairs among scored candidates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fluxlight.cli.arguments import Arguments
from fluxlight.clips.candidates import key_of
from fluxlight.clips.spread import Spread, pooled
from fluxlight.files import claimed, read_jsonl, write_json, write_jsonl
from fluxlight.mining.experts import select_experts
from fluxlight.mining.pairs import BUILDERS, PairBuilder, select_pairs
from fluxlight.mining.select import read_ids, usable


def main(args: Sequence[str] | None = None) -> int:
    """`fluxlight select experts|pairs`: scores.jsonl -> experts.jsonl or pairs.jsonl."""
    parser = Arguments(prog="fluxlight select", description=__doc__.split("\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    experts = kinds.add_parser("experts", help="top share by the blend of z-scored reward and CLAP")
    experts.add_argument("--weight_reward", type=float, default=0.5, help="weight of the z-scored reward")
    experts.add_argument("--weight_clap", type=float, default=0.5, help="weight of the z-scored CLAP similarity")
    experts.add_argument("--top", type=float, default=0.1, help="share that is kept at most")
    experts.add_argument("--among", choices=("all", "prompt"), default="all", help="rank among all, or within a prompt")
    experts.add_argument("--cap", type=int, help="at most so many of one prompt (no limit)")
    experts.add_argument("--least", type=float, help="smallest blend (within a prompt: advantage) that is kept")
    experts.add_argument("--label", choices=("own", "asked"), default="own", help="score they are trained under")
    pairs = kinds.add_parser("pairs", help="which of two candidates is better")
    pairs.add_argument("--by", choices=tuple(BUILDERS), default="extremes", help="rule that makes the pairs (extremes)")
    for name, (value, said) in _settings().items():
        pairs.add_argument(f"--{name}", type=value, help=said)
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
        chosen = select_experts(rows, given.weight_reward, given.weight_clap, given.top, forbidden, given.among,
                                given.cap, given.least, given.label)  # fmt: skip
    else:
        builder = _builder(given.by, vars(given))
        chosen = select_pairs(rows, builder, forbidden)
    spreads = spread_of_choice(rows, chosen)
    with claimed(given.candidates):
        write_jsonl(out, chosen)
        if spreads:
            write_json(out.with_suffix(".spread.json"), {name: spread.plain() for name, spread in spreads.items()})
    columns = ("reward", "clap") if given.kind == "experts" else builder.columns
    failed = sum(bool(row.get("error")) for row in rows)
    unscored = sum(not row.get("error") and not usable([row], *columns) for row in rows)
    said = f"{failed} failed" + (f", {unscored} without a finite score" if unscored else "")
    print(f"{len(chosen)} {given.kind} of {len(rows)} scored candidates ({said}) -> {out}")
    for name, spread in spreads.items():
        print(f"  {name} ({spread.clips} clips): {spread.line()}")
    return 0


def _settings() -> dict[str, tuple[type, str]]:
    """Setting of some builder -> its type, and what it is by default in each."""
    found: dict[str, dict[str, Any]] = {}
    for by, kind in BUILDERS.items():
        for name, value in kind().init_args.items():
            found.setdefault(name, {})[by] = value
    return {
        name: (type(next(iter(values.values()))), ", ".join(f"{by}: {value}" for by, value in values.items()))
        for name, values in found.items()
    }


def _builder(by: str, given: dict[str, Any]) -> PairBuilder:
    """The builder with the settings that were given; one that it does not have is refused."""
    settings = {name: given[name] for name in _settings() if given[name] is not None}
    known = list(BUILDERS[by]().init_args)
    if strange := [name for name in settings if name not in known]:
        raise ValueError(f"--{strange[0]} is no setting of --by {by}: it has --{', --'.join(known)}")
    return BUILDERS[by](**settings)


def spread_of_choice(rows: Sequence[dict[str, Any]], chosen: Sequence[dict[str, Any]]) -> dict[str, Spread]:
    """Spread of the normalised latents of all candidates and of the chosen ones; empty where a row does not say."""
    good = {key_of(row): (row.get("extra") or {}).get("spread") for row in rows if not row.get("error")}
    groups: dict[str, list[Any]] = {"candidates": list(good)}
    for side in ("winner", "loser"):
        groups[f"{side}s"] = [key_of({"id": row["id"], **row[side]}) for row in chosen if side in row]
    groups["experts"] = [key_of(row) for row in chosen if "winner" not in row]
    found = {name: pooled([good.get(key) for key in keys]) for name, keys in groups.items()}
    return {name: spread for name, spread in found.items() if spread is not None}
