"""Claims: what was published, what a folder of experiments found, and a verdict by a rule that was fixed beforehand.

``python -m experiments.claims runs/experiments --out experiments/README.md``

The claims stand in ``experiments/claims.yaml``; the rule, word for word as the page has it, is ``RULE``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.experiment import names, read_experiment
from experiments.page import collect
from fluxlight.files import write_text
from fluxlight.report.table import grid, label, number, with_interval

CLAIMS = Path(__file__).parent / "claims.yaml"
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
python -m experiments.claims runs/experiments --out experiments/README.md
```

Each experiment is one file in `experiments/cells` and one command, `python -m experiments.run NAME --from CHAIN
--out DIR`: resumable, at any scale of the chain, in several processes (`--jobs`) or on several GPUs (`--devices`).
`--plan` says what would be made, `--smoke` makes two cells of each. `DIR/index.html` shows all of them, with forest
plots and audio."""
NOTE = """
Everything ours is another model, other data and other judges than the published: only signs and significance can be
compared. Intervals are over prompts; there is one training seed unless seeds are named, so a difference between two
trainings also holds what another seed would have done (see `seeds`). CLAP-B and reward B judge; nothing was trained
or selected by them."""


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
        return Finding(null(c["low"], c["high"], claim["within"]), figure, f"margin {claim['within']:g}")
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


def table(known: Known) -> str:
    """The table of claims as Markdown."""
    rows = []
    for claim in read_claims():
        found = judge(claim, known)
        result = known.get(claim.get("experiment", ""), (None, None))[0]
        said = f"{found.figure}; {found.note}" if found.figure and found.note else found.figure or found.note
        name = claim.get("experiment", "")
        scale = f"{result['source']['chain']}, {result['clips'] or 'all'} prompts" if result else ""
        cost = f"{result['seconds'] / 60:.0f} min" if result else ""
        when = f"{result['date']}, {result['environment']['revision'] or 'unknown'}" if result else ""
        published, code = f"{claim['published']} ({claim['source']})", f"`{name}`" if name else ""
        rows.append([claim["claim"], published, code, scale, cost, said, f"**{found.verdict}**", when])
    return grid(
        ["claim", "published", "experiment", "scale", "cost", "ours, 95 %", "verdict", "date, revision"], rows, 8
    )


def write_claims(out: Path, path: Path) -> None:
    """Write the page of claims from a folder of experiments."""
    known = {result["experiment"]: (result, evaluation) for result, evaluation in collect(out)}
    chains = {r["source"]["chain"]: r for r, _ in known.values()}
    lines = []
    for name in names():
        experiment = read_experiment(name)
        found = known.get(name, (None, None))[0]
        done = sum(cell["state"] == "done" for cell in found["cells"].values()) if found else 0
        state = f"{done} of {len(experiment.cells)} cells" if found else "not run yet"
        cost = f"{found['seconds'] / 60:.1f} min on {found['environment']['cores']} cores" if found else ""
        lines.append([f"`{name}`", experiment.question, state, cost])
    text = [
        "# Experiments", "",
        "Written by `python -m experiments.claims` from the folders of the experiments alone; do not edit.", START, "",
        "## Claims", RULE, NOTE, "", table(known), "", "## What is there", "",
        grid(["experiment", "question", "state", "cost of its own cells"], lines, 4), "",
        "## Versions", "", *(_versions(name, result) for name, result in chains.items()), "",
    ]  # fmt: skip
    write_text(path, "\n".join(text))


def _versions(name: str, result: Mapping[str, Any]) -> str:
    environment = result["environment"]
    packages = ", ".join(f"{package} {version}" for package, version in environment["versions"].items())
    return (
        f"- {name}: {packages}; Python {environment['python']}; revision {environment['revision'] or 'unknown'}; the "
        f"chain itself took {result['source']['minutes']:.0f} minutes"
    )


def main(args: Sequence[str] | None = None) -> int:
    """Write the page of claims."""
    parser = argparse.ArgumentParser(prog="experiments.claims", description=__doc__.split("\n")[0])
    parser.add_argument("experiments", type=Path, help="folder of experiments")
    parser.add_argument("--out", type=Path, required=True, help="Markdown to write")
    given = parser.parse_args(args)
    write_claims(given.experiments, given.out)
    print(f"{len(read_claims())} claims -> {given.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
