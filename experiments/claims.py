"""Claims: what was published, what a folder of experiments found, and a verdict by a rule that was fixed beforehand.

``python -m experiments.claims runs/experiments --out experiments/README.md``

It is the last step of every experiment, which writes ``claims.md`` beside its results. The claims stand in
``experiments/claims.yaml``; the rule, word for word as the page has it, is ``experiments.verdicts.RULE``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.cells.experiment import names, read_experiment
from experiments.reports.blocks import Table, changed
from experiments.reports.judges import card_blocks
from experiments.reports.page import as_markdown, collect, write_report
from experiments.reports.twin import write_twins
from experiments.verdicts import RULE, Known, judge, read_claims
from fluxlight.cli.arguments import Arguments
from fluxlight.files import write_json, write_text
from fluxlight.report.table import grid

SWEEPS = Path(__file__).parent / "sweeps"
START = """
```bash
python -m experiments.chain --scale laptop --out runs/laptop       # what they all stand on
python -m experiments.run all --from runs/laptop --out runs/experiments --jobs 2
python -m experiments.sweep experiments/sweeps/heads.yaml --from runs/laptop --out runs/experiments
python -m experiments.sweep experiments/sweeps/bayes.yaml --from runs/laptop --out runs/experiments
python -m experiments.claims runs/experiments --out experiments/README.md
```

Each experiment is one file in `experiments/cells` and one command, `python -m experiments.run NAME --from CHAIN
--out DIR`: resumable, at any scale of the chain, in several processes (`--jobs`) or on several GPUs (`--devices`).
`--plan` says what would be made, `--smoke` makes two cells of each. `DIR/index.html` shows all of them, with forest
plots and audio. The last line writes this page, and a short report of each experiment into `results`."""
NOTE = """
Everything ours is another model, other data and other judges than the published: only signs and significance can be
compared. Intervals are over prompts, and over noise and training seeds where a claim names more than one; with one
training seed a difference between two trainings also holds what another seed would have done (see `seeds`). CLAP-B
and reward B judge; nothing was trained or selected by them. The intervals of this table are not corrected for the
number of claims: of twenty without an effect one is expected to exclude 0. The reports have Holm's correction."""


def table(known: Known) -> Table:
    """The claims with their findings."""
    rows = []
    for claim in read_claims():
        found = judge(claim, known)
        name = claim.get("experiment", "")
        result = known.get(name, (None, None))[0]
        said = f"{found.figure}; {found.note}" if found.figure and found.note else found.figure or found.note
        command = f"`python -m experiments.run {name}`" if name else ""
        scale = cost = when = ""
        if result:
            command = f"`{result['command']}`"
            scale = f"{result['source']['chain']}, {result['clips'] or 'all'} prompts"
            scale += f", trainings with {changed(result)}" if changed(result) else ""
            cost, when = minutes(result), f"{result['date']}, {result['environment']['revision'] or 'unknown'}"
        published = f"{claim['published']} ({claim['source']})"
        rows.append([claim["claim"], published, command, scale, cost, said, f"**{found.verdict}**", when])
    head = ["claim", "published", "command", "scale", "cost", "ours, 95 %", "verdict", "date, revision"]
    return Table("Claims", head, rows, numeric=len(head), wrap=(0, 1, 2, 3, 5, 7))


def as_data(known: Known) -> dict[str, Any]:
    """The claims with their findings, for machines (``claims.schema.json``)."""
    rows = []
    for claim in read_claims():
        found = judge(claim, known)
        names = ("claim", "published", "source", "kind", "experiment", "where", "sign", "size", "within", "than",
                 "reason")  # fmt: skip
        kept: dict[str, Any] = {key: claim[key] for key in names if key in claim}
        result = known.get(claim.get("experiment", ""), (None, None))[0]
        scale: dict[str, Any] = {}
        if result:
            scale = {"chain": result["source"]["chain"], "command": result["command"]}
        rows.append({**kept, **scale, "verdict": found.verdict, "found": found.numbers, "note": found.note})
    return {"version": 1, "kind": "claims", "rule": RULE.strip(), "claims": rows}


def minutes(result: Mapping[str, Any]) -> str:
    """What an experiment's own cells have cost, the processes that made them added up."""
    if not result["seconds"]:
        return f"none beyond the chain's {result['source']['minutes']:.0f} min"
    environment = result["environment"]
    threads = f"{environment['threads']} of " if "threads" in environment else ""
    return f"{result['seconds'] / 60:.1f} min on {threads}{environment['cores']} cores"


def write_all(out: Path) -> None:
    """Write a folder's whole report: ``index.html``, ``README.md`` and ``claims.md``."""
    claims = table(_known(out))
    rows = [[row[0], row[1], row[5], row[6].strip("*")] for row in claims.rows]
    short = Table("Claims of the paper and its neighbours", ["claim", "published", "ours, 95 %", "verdict"], rows, 4,
                  wrap=(0, 1, 2))  # fmt: skip
    write_report(out, [short])
    write_claims(out, out / "claims.md")


def write_claims(out: Path, path: Path) -> None:
    """Write the page of claims from a folder of experiments."""
    known = _known(out)
    chains = {r["source"]["chain"]: r for r, _ in known.values()}
    claims = table(known)
    text = [
        "# Experiments", "",
        "Written by `python -m experiments.claims` from the folders of the experiments alone; do not edit.", START, "",
        "## Claims", RULE, NOTE, "", grid(claims.head, claims.rows, claims.numeric), "",
        as_markdown(card_blocks([evaluation for _, evaluation in known.values()])), "", "## What is there", "",
        grid(["experiment", "question", "state", "cost of its own cells"], _state(known, path), 4), "",
        "## Versions", "", *(_versions(name, result) for name, result in chains.items()), "",
    ]  # fmt: skip
    write_text(path, "\n".join(text))
    # beside the reports where there is a folder of them: README.json would be nobody's name for it
    beside = path.parent / "results"
    write_json((beside if beside.is_dir() else path.parent) / "claims.json", as_data(known))


def _known(out: Path) -> Known:
    return {result["experiment"]: (result, evaluation) for result, evaluation in collect(out)}


def _state(known: Known, path: Path) -> list[list[str]]:
    """A row for each experiment and sweep that is shipped or there, with a link to its report if that lies beside."""
    sweeps = [file.stem for file in sorted(SWEEPS.glob("*.yaml"))]
    lines = []
    for name in dict.fromkeys([*names(), *sweeps, *known]):
        result = known.get(name, (None, None))[0]
        if result:
            done = sum(cell["state"] == "done" for cell in result["cells"].values())
            lost = [cell for cell, found in result["cells"].items() if found["state"] != "done"]
            state = f"{done} of {len(result['cells'])} cells" + (f"; not there: {', '.join(lost)}" if lost else "")
            question, cost = result["question"], minutes(result)
        else:
            state, cost = "not run yet", ""
            question = read_experiment(name).question if name in names() else f"`experiments/sweeps/{name}.yaml`"
        report = Path("results") / f"{name}.md"
        there = f"[`{name}`]({report.as_posix()})" if (path.parent / report).is_file() else f"`{name}`"
        lines.append([there, question, state, cost])
    return lines


def _versions(name: str, result: Mapping[str, Any]) -> str:
    environment = result["environment"]
    packages = ", ".join(f"{package} {version}" for package, version in environment["versions"].items())
    return (
        f"- {name}: {packages}; Python {environment['python']}; revision {environment['revision'] or 'unknown'}; the "
        f"chain itself took {result['source']['minutes']:.0f} minutes"
    )


def main(args: Sequence[str] | None = None) -> int:
    """Write the report of a folder again; with ``--out`` also the page of claims and a short report of each."""
    parser = Arguments(prog="experiments.claims", description=__doc__.split("\n")[0])
    parser.add_argument("experiments", type=Path, help="folder of experiments")
    parser.add_argument("--out", type=Path, help="Markdown to write; reports with plots go to results/ beside it")
    given = parser.parse_args(args)
    try:
        write_all(given.experiments)
        if given.out:
            twins = write_twins(given.experiments, given.out.parent / "results")
            write_claims(given.experiments, given.out)
            print(f"{len(read_claims())} claims -> {given.out}, {len(twins)} reports -> {given.out.parent / 'results'}")
    except (ValueError, OSError) as error:
        print(f"claims: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
