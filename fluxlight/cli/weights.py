"""``fluxlight weights``: the published files, or those a config needs: present or not, and how to get them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fluxlight.cli.arguments import Arguments
from fluxlight.weights.catalogue import CATALOGUE, UNKNOWN, Published
from fluxlight.weights.locate import VARIABLE, locate, use_folder, weights_folder
from fluxlight.weights.needs import FOLDER_KEY, Need, needs, read_configs


def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    p = Arguments(
        prog="fluxlight weights",
        description="List the published files that a config needs (all of them without one), or fetch some. Nothing "
        "is fetched unless --fetch says so.",
        epilog=f"One folder holds them all: --folder, else the config's key '{FOLDER_KEY}', else {VARIABLE}, else "
        "'weights' in the cache folder. Read each licence before you fetch.",
    )
    add = p.add_argument
    add("--config", action="append", default=[], metavar="FILE", help="stage YAML and overlays, in order")
    add("--folder", help="the weights folder")
    add("--fetch", action="append", default=[], metavar="NAME",
        help="get this one from its published place, or go on where that was interrupted")  # fmt: skip
    add("--verify", action="store_true", help="compute the checksums of what is there and known")
    add("--json", action="store_true", help="print JSON")
    return p


def main(args: list[str]) -> int:
    """Run the verb: 0 when all that was asked for is there, 1 when --config needs or --verify finds fault with some."""
    given = parser().parse_args(args)
    config = read_configs(given.config)
    use_folder(given.folder or config.get(FOLDER_KEY))
    for name in given.fetch:
        print(f"{name} is at {_fetch(name)}")
    if given.fetch and not given.config:
        return 0
    asked = needs(config) if given.config else [Need(name, None, "") for name in CATALOGUE]
    rows = [_row(need, given.verify) for need in asked]
    if given.json:
        print(json.dumps(rows, indent=1))
    else:
        print("\n".join(map(_text, rows)) + ("\n" if rows else ""))
        print(_summary(rows, bool(given.config)))
    lacking = [row for row in rows if given.config and not row["present"] and not row["optional"]]
    return 1 if lacking or any(row["wrong"] for row in rows) else 0


def _fetch(name: str) -> Path:
    from fluxlight.weights.fetch import fetch

    entry = CATALOGUE.get(name.rstrip("/"))
    if entry is None:
        raise ValueError(f"no published file is called {name!r}: choose one of {', '.join(CATALOGUE)}")
    print(f"fetching {entry.name} from {entry.page} (licence: {entry.licence})")
    return fetch(entry, weights_folder())


def _row(need: Need, check: bool) -> dict[str, Any]:
    from fluxlight.weights.fetch import verify

    entry = CATALOGUE.get(need.name)
    wanted = Path(need.path).expanduser() if need.path else weights_folder() / need.name
    wrong: list[str] = []
    try:
        locate(need.name, need.path)
        there, lacks = True, []
    except FileNotFoundError:
        there, lacks = False, entry.lacks(wanted) if entry and wanted.is_dir() else []
    except ValueError:
        there, lacks = True, []
    if entry is not None and there:
        wrong = verify(entry, wanted) if check else entry.faults(wanted, sized=need.path is None)
    row: dict[str, Any] = {
        "name": need.name, "present": there and not wrong, "looked_for": str(wanted), "lacks": lacks,
        "needed_by": need.asked_by, "optional": need.optional, "wrong": wrong,
    }  # fmt: skip
    if entry is not None:
        sizes = [remote.size for remote in entry.files]
        row |= {
            "what": entry.what, "published": entry.page, "licence": entry.licence, "alternative": entry.alternative,
            "bytes": sum(s for s in sizes if s) if sizes and all(sizes) else None,
            "numbers": sum(remote.numbers for remote in entry.files if remote.numbers > 1),
            "checksums": {remote.path or entry.name: remote.checksum for remote in entry.files if remote.checksum},
            "here": _size(wanted) if wanted.exists() else None, "fetch": _offer(entry),
        }  # fmt: skip
    return row


def _offer(entry: Published) -> str | None:
    return f"fluxlight weights --fetch {entry.name}" if entry.files else None


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def _text(row: dict[str, Any]) -> str:
    absent = "absent (optional)" if row["optional"] else "MISSING" if row["needed_by"] else "absent"
    state = "present" if row["present"] else "WRONG" if row["wrong"] else absent
    head = f"{row['name']}: {state}"
    if "what" not in row:
        lines = [head, f"  looked for  {row['looked_for']}", "  published   unknown to fluxlight"]
        return "\n".join(lines)
    here = f" ({_human(row['here'])})" if row["here"] is not None else ""
    size = f"{_human(row['bytes'])} ({row['bytes']:,} bytes)" if row["bytes"] else UNKNOWN
    size += f" ({row['numbers']:,} numbers)" if row["numbers"] else ""
    sums = ", ".join(f"{name} {value}" for name, value in row["checksums"].items())
    lines = [
        f"{head}; {row['what']}" + (f"; needed by {row['needed_by']}" if row["needed_by"] else ""),
        f"  looked for  {row['looked_for']}{here}" + (f", lacks {', '.join(row['lacks'])}" if row["lacks"] else ""),
        f"  published   {row['published']}, licence {row['licence']}",
        f"  size        {size}; checksum {sums or UNKNOWN}",
    ]
    lines += [f"  wrong       {line}" for line in row["wrong"]]
    if not row["present"]:
        lines.append(f"  get it      {row['fetch'] or 'by hand'}; embedded alternative: {row['alternative']}")
    return "\n".join(lines)


def _summary(rows: list[dict[str, Any]], of_config: bool) -> str:
    present = sum(row["present"] for row in rows)
    if not rows:
        return "this config needs no published file"
    what = "published files this config needs" if of_config else "published files"
    return f"{present} of {len(rows)} {what} are in place (weights folder: {weights_folder()})"


def _human(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
