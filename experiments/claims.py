"""Claims: what was published, what a folder of experiments found, and a verdict by a rule that was fixed beforehand.

``python -m experiments.claims runs/experiments --out experiments/README.md``

It is the last step of every experiment, which writes ``claims.md`` beside its results. The claims stand in
``experiments/claims.yaml``; the rule, word for word as the page has it, is ``RULE``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.cells.experiment import names, read_experiment
from experiments.reports.blocks import Table, changed
from experiments.reports.page import collect, write_report
from experiments.reports.twin import write_twins
from fluxlight.cli.arguments import Arguments
from fluxlight.files import write_text
from fluxlight.report.table import grid, label, number, with_interval

CLAIMS, SWEEPS = Path(__file__).parent / "claims.yaml", Path(__file__).parent / "sweeps"
REPRODUCED, NOT, CANNOT = "reproduced", "not reproduced", "cannot tell"
UNTESTABLE, ABSENT = "not testable here", "not run yet"
RULE = """
A difference is **reproduced** when its 95 % interval excludes 0 on the published side; **not reproduced** when it
excludes 0 on the other side, or when it holds 0 although this n would have seen the published size (80 % power);
**cannot tell** otherwise, with the smallest effect this n could have seen. A claim that nothing changes is
reproduced when the whole interval lies within the margin that is named, not reproduced when it lies wholly outside."""
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
compared. Intervals are over prompts; there is one training seed unless seeds are named, so a difference between two
trainings also holds what another seed would have done (see `seeds`). CLAP-B and reward B judge; nothing was trained
or selected by them. The intervals of this table are not corrected for the number of claims: of twenty without an effect
one is expected to exclude 0. The reports below have Holm's correction."""


@dataclass(frozen=True)
class Finding:
    """What was found for a claim: an estimate with its interval, what this n could have seen, and the verdict."""

    verdict: str
    figure: str = ""
    note: str = ""


def effect(value: float, low: float, high: float, sign: int, smallest: float, size: float | None = None) -> str:
    """The verdict on a difference that was published with a ``sign`` and, where it is known, a ``size``."""
    if low > 0 or high < 0:
        return REPRODUCED if (value > 0) == (sign > 0) else NOT
    return NOT if size is not None and smallest <= abs(size) else CANNOT


def null(low: float, high: float, within: float) -> str:
    """The verdict on a claim that a difference stays within a margin."""
    if -within <= low and high <= within:
        return REPRODUCED
    return NOT if low > within or high < -within else CANNOT


def exceeds(low: float, high: float, than: float) -> str:
    """The verdict on a claim that a spread, known within an interval, is larger than an effect."""
    return REPRODUCED if low > than else NOT if high < than else CANNOT


Known = Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any] | None]]


def judge(claim: Mapping[str, Any], known: Known) -> Finding:
    """The finding for one claim out of the experiments that are there."""
    if claim["kind"] == "none":
        return Finding(UNTESTABLE, note=claim["reason"])
    result, evaluation = known.get(claim["experiment"], (None, None))
    if result is None or evaluation is None:
        return Finding(ABSENT, note=f"experiment {claim['experiment']}")
    where = claim["where"]
    if claim["kind"] == "exceeds":
        return _spread(claim, result, known)
    if "group" in where:
        found = (result.get("slope") or {}).get(where["group"])
        if found is None:
            return Finding(ABSENT, note=f"slope of {where['group']}")
        line = found["slopes"][where["metric"]]
        figure = f"slope of {label(where['metric'])} {with_interval(line['mean'], line['low'], line['high'], True)}"
        return Finding(null(line["low"], line["high"], claim["within"]), figure, f"margin {claim['within']:g} per unit")
    c = comparison(evaluation, where)
    if c is None:
        why = result["cells"].get(where["system"], {}).get("why", "")
        return Finding(ABSENT, note=why or f"cell {where['system']}")
    figure = f"{label(where['metric'])} {with_interval(c['difference'], c['low'], c['high'], True)}"
    if claim["kind"] == "null":
        # a small change can be a sure one: the verdict is on its size alone
        sure = ", though it excludes 0" if c["low"] > 0 or c["high"] < 0 else ""
        return Finding(null(c["low"], c["high"], claim["within"]), figure, f"margin {claim['within']:g}{sure}")
    verdict = effect(c["difference"], c["low"], c["high"], claim["sign"], c["smallest"], claim.get("size"))
    digits = 3 if c["smallest"] >= 0.1 else 4
    return Finding(verdict, figure, f"n = {c['n']} could see {number(c['smallest'], digits=digits)}")


def _spread(claim: Mapping[str, Any], result: Mapping[str, Any], known: Known) -> Finding:
    where, than = claim["where"], claim["than"]
    group = (result.get("components") or {}).get(where["group"])
    _, evaluation = known.get(than["experiment"], (None, None))
    other = comparison(evaluation, than) if evaluation else None
    if group is None or other is None:
        return Finding(ABSENT, note=f"{where['group']}, and {than['experiment']}")
    sd, size = group["distances"][where["metric"]], abs(other["difference"])
    figure = f"SD {sd['sd']:.4f} [{sd['low']:.4f}, {sd['high']:.4f}] over {sd['k']} seeds, against {size:.4f}"
    return Finding(exceeds(sd["low"], sd["high"], size), figure, f"range of the seeds {sd['range']:.4f}")


def comparison(evaluation: Mapping[str, Any], where: Mapping[str, str]) -> Mapping[str, Any] | None:
    """A paired comparison of the locked table; None when it is not there."""
    table = evaluation["tables"]["locked"]
    wanted = (where["system"], where["against"], where["metric"])
    return next((c for c in table["comparisons"] if (c["system"], c["against"], c["metric"]) == wanted), None)


def read_claims(path: Path = CLAIMS) -> list[dict[str, Any]]:
    """The claims, checked against the experiments they name."""
    claims: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["claims"]
    for claim in claims:
        if claim["kind"] not in ("effect", "null", "exceeds", "none"):
            raise ValueError(f"{path}: claim {claim['claim']!r} has kind {claim['kind']!r}")
        cells = {c.name for c in read_experiment(claim["experiment"]).cells} if "experiment" in claim else set()
        asked = {claim["where"][key] for key in ("system", "against") if key in claim.get("where", {})}
        if asked - cells:
            raise ValueError(
                f"{path}: claim {claim['claim']!r} names {', '.join(sorted(asked - cells))}, which is no cell"
            )
    return claims


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
        "## Claims", RULE, NOTE, "", grid(claims.head, claims.rows, claims.numeric), "", "## What is there", "",
        grid(["experiment", "question", "state", "cost of its own cells"], _state(known, path), 4), "",
        "## Versions", "", *(_versions(name, result) for name, result in chains.items()), "",
    ]  # fmt: skip
    write_text(path, "\n".join(text))


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
