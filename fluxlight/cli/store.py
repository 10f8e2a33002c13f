"""``fluxlight store``: join stores, convert one of an earlier version, append a column of scores, verify checksums."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fluxlight.cli.arguments import Arguments


def main(args: Sequence[str] | None = None) -> int:
    """Run one of the actions; 1 where a file is not what it was."""
    parser = Arguments(prog="fluxlight store", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Arguments)
    join = actions.add_parser("join", help="one store of several, for instance of all shares of an encoding")
    join.add_argument("stores", nargs="+", help="folders; shares are put in their order")
    join.add_argument("--out", required=True, help="folder of the new store")
    convert = actions.add_parser("convert", help="write a store of an earlier version anew")
    convert.add_argument("store", help="folder")
    convert.add_argument("--out", required=True, help="folder of the new store")
    column = actions.add_parser("column", help="append scores of another reward; nothing else is written again")
    column.add_argument("store", help="folder")
    column.add_argument("--name", required=True, help="of the column; data.score_column takes it")
    column.add_argument("--table", required=True, help="scores by id: TSV, CSV, JSON or JSONL")
    column.add_argument("--column", help="of the table (the name)")
    verify = actions.add_parser("verify", help="compare all files with their checksums")
    verify.add_argument("stores", nargs="+", help="folders")
    given = parser.parse_args(args)
    if given.action == "join":
        from fluxlight.data.preparation.pack import join as make

        print(f"{make(given.out, given.stores)} rows of {len(given.stores)} stores -> {given.out}", file=sys.stderr)
    elif given.action == "convert":
        from fluxlight.data.preparation.pack import convert as make_anew

        print(f"{make_anew(given.store, given.out)} rows -> {given.out}", file=sys.stderr)
    elif given.action == "column":
        from fluxlight.data.extend import append_scores

        count = append_scores(given.store, given.name, given.table, given.column)
        print(f"column {given.name}: {count} rows -> {given.store}", file=sys.stderr)
    else:
        from fluxlight.data.extend import verify as check

        wrong = [line for folder in given.stores for line in check(folder)]
        for line in wrong:
            print(line, file=sys.stderr)
        return 1 if wrong else 0
    return 0
