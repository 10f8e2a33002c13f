"""One page with everything: the table, the score sweep, the published numbers and where it all comes from."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from callbacks.run_facts import revision, versions
from fluxlight.cli import told
from fluxlight.cli.arguments import Arguments
from fluxlight.files import read_json, write_json, write_text
from fluxlight.report.published import decomposition_table
from fluxlight.report.table import MARK, grid, label, with_interval


def sweep_markdown(sweep: Mapping[str, Any]) -> str:
    """The score sweep as Markdown."""
    marked = {name: label(name) + (f" {MARK}" if name in sweep["optimised"] else "") for name in sweep["means"]}
    rows = [
        [f"{score:.2f}", *(with_interval(sweep["means"][name][k]["mean"], sweep["means"][name][k]["low"],
                                         sweep["means"][name][k]["high"]) for name in marked)]
        for k, score in enumerate(sweep["settings"])
    ]  # fmt: skip
    slopes = "; ".join(
        f"{marked[name]} {with_interval(s['mean'], s['low'], s['high'], True)}" for name, s in sweep["slopes"].items()
    )
    return "\n".join([
        "## Row 1 asked for other scores", "",
        f"The first {sweep['n']} prompts, the same noise; scores: quantiles 0.01 to 0.99 of the training set.", "",
        grid(["score asked for", *marked.values()], rows, numeric=0), "",
        f"Slope per unit of score, 95 % interval over prompts: {slopes}.", "",
    ])  # fmt: skip


def provenance(run: Path, store: Path) -> dict[str, Any]:
    """What it was made with: versions, revision, machine, corpus, judges, weights."""
    meta, table = read_json(store / "meta.json"), read_json(run / "table.json")
    systems = next(iter(table["tables"].values()))["systems"]
    return {
        "versions": versions(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "revision": revision(),
        "corpus": read_json(run / "corpus.json") if (run / "corpus.json").exists() else {"store": meta["recipe"]},
        "identities": meta["identities"],
        "judges": table["frame"]["judges"],
        "checkpoints": {name: row["info"].get("checkpoint", "") for name, row in systems.items()},
    }


def main(args: Sequence[str] | None = None) -> int:
    """Write ``table.md``, ``provenance.json`` and, with all of it, ``report.json`` of a run folder."""
    parser = Arguments(prog="experiments.report", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="run folder of the chain")
    parser.add_argument("--store", type=Path, required=True, help="the training store")
    given = parser.parse_args(args)
    run, made = given.run, provenance(given.run, given.store)
    lines = [
        f"- {key}: {', '.join(f'{k} {v}' for k, v in value.items()) if isinstance(value, dict) else value}"
        for key, value in made.items()
    ]
    table, sweep = read_json(run / "table.json"), read_json(run / "sweep.json")
    text = decomposition_table(table) + "\n" + sweep_markdown(sweep)
    write_json(run / "provenance.json", made)
    write_json(run / "report.json", {"version": 1, "kind": "chain", "evaluation": table, "sweep": sweep,
                                     "provenance": made})  # fmt: skip
    write_text(run / "table.md", text + "\n## Provenance\n\n" + "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(told(main, "experiments.report"))
