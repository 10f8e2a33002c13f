"""Verdicts: from the claims of ``experiments/claims.yaml`` and a folder of experiments to what was found for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from scipy import stats

from experiments.cells.experiment import read_experiment
from fluxlight.evaluation.differences import excludes_zero
from fluxlight.metrics.statistics import CHANGED, UNCHANGED, equivalence
from fluxlight.report.table import between, label, number, seeds, with_interval

CLAIMS = Path(__file__).parent / "claims.yaml"
REPRODUCED, NOT, CANNOT = "reproduced", "not reproduced", "cannot tell"
UNTESTABLE, ABSENT = "not testable here", "not run yet"
RULE = """
A difference is **reproduced** when its 95 % interval excludes 0 on the published side by more than its Monte-Carlo
error; **not reproduced** when it so excludes 0 on the other side, or when it holds 0 although this n would have seen
the published size (80 % power); **cannot tell** otherwise, with the smallest effect this n could have seen, and
wherever an end lies within its Monte-Carlo error of 0. A claim that nothing changes is two one-sided tests at 5 %
with the margin beside it: reproduced when the 90 % interval lies within the margin, not reproduced when the 95 %
interval lies wholly outside. Every claim says how many prompts, noise seeds and training seeds it stands on."""


@dataclass(frozen=True)
class Finding:
    """What was found for a claim: an estimate with its interval, what this n could have seen, and the verdict.

    Attributes:
        verdict: one of the words of the rule.
        figure: the estimate as it is printed.
        note: what else is printed beside it.
        numbers: the estimate as the machine-readable page has it.
    """

    verdict: str
    figure: str = ""
    note: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


def effect(
    value: float, low: float, high: float, sign: int, smallest: float, size: float | None = None, error: float = 0.0
) -> str:
    """The verdict on a difference that was published with a ``sign`` and, where it is known, a ``size``.

    Args:
        value, low, high: the difference and its 95 % interval.
        sign: of the published difference.
        smallest: difference that this n would have seen.
        size: of the published difference.
        error: Monte-Carlo error of the ends.
    """
    if low > error or high < -error:
        return REPRODUCED if (value > 0) == (sign > 0) else NOT
    # with another draw of the resamples this interval may lie on one side
    if low > 0 or high < 0 or (error and min(abs(low), abs(high)) <= error):
        return CANNOT
    return NOT if size is not None and smallest <= abs(size) else CANNOT


def null(interval: Interval, interval90: Interval, within: float, error: float = 0.0) -> str:
    """The verdict on a claim that a difference stays within a margin (`fluxlight.metrics.statistics.equivalence`)."""
    said = equivalence(interval, interval90, within, error)
    return {UNCHANGED: REPRODUCED, CHANGED: NOT}.get(said, CANNOT)


def exceeds(low: float, high: float, than: float) -> str:
    """The verdict on a claim that a spread, known within an interval, is larger than an effect."""
    return REPRODUCED if low > than else NOT if high < than else CANNOT


Interval = tuple[float, float]
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
        return _slope(claim, found["slopes"][where["metric"]])
    c = comparison(evaluation, where)
    if c is None:
        why = result["cells"].get(where["system"], {}).get("why", "")
        return Finding(ABSENT, note=why or f"cell {where['system']}")
    figure = f"{label(where['metric'])} {with_interval(c['difference'], c['low'], c['high'], True)}"
    numbers = {key: c[key] for key in NUMBERS if key in c}
    over = drawn_from(c)
    if claim["kind"] == "null":
        # a small change can be a sure one: the verdict is on its size alone
        sure = ", though it excludes 0" if excludes_zero(c) else ""
        verdict = null((c["low"], c["high"]), (c["low90"], c["high90"]), claim["within"], c["monte_carlo"])
        inner = between(c["low90"], c["high90"])
        note = f"90 % {inner} against a margin of {claim['within']:g}{sure}; {over}"
        return Finding(verdict, figure, note, {**numbers, "margin": claim["within"]})
    verdict = effect(
        c["difference"], c["low"], c["high"], claim["sign"], c["smallest"], claim.get("size"), c["monte_carlo"]
    )
    digits = 3 if c["smallest"] >= 0.1 else 4
    close = min(abs(c["low"]), abs(c["high"])) <= c["monte_carlo"] and c["monte_carlo"] > 0
    error = f"; an end lies within its Monte-Carlo error ({number(c['monte_carlo'], digits=4)}) of 0" if close else ""
    return Finding(verdict, figure, f"{over}, could see {number(c['smallest'], digits=digits)}{error}", numbers)


NUMBERS = (
    "difference", "low", "high", "low90", "high90", "monte_carlo", "p", "p_holm", "smallest", "n", "noise_seeds",
    "training_seeds", "parts",
)  # fmt: skip


def drawn_from(c: Mapping[str, Any]) -> str:
    """How many prompts, noise seeds and training seeds a comparison stands on."""
    one, two = c["training_seeds"]
    if one == two:
        return f"{c['n']} prompts x {seeds(c['noise_seeds'], one)}"
    return f"{c['n']} prompts x {seeds(c['noise_seeds'], one)}, against {two} of the other row"


def _slope(claim: Mapping[str, Any], line: Mapping[str, Any]) -> Finding:
    low, high, n = line["low"], line["high"], line["n"]
    # a t interval: the 90 % one is as much narrower as the quantiles say
    half = (high - low) / 2 * float(stats.t.ppf(0.95, n - 1) / stats.t.ppf(0.975, n - 1))
    inner = (line["mean"] - half, line["mean"] + half)
    figure = f"slope of {label(claim['where']['metric'])} {with_interval(line['mean'], low, high, True)}"
    note = f"90 % {between(*inner)} against a margin of {claim['within']:g} per unit; {n} prompts x {seeds(1, 1)}"
    numbers = {"difference": line["mean"], "low": low, "high": high, "low90": inner[0], "high90": inner[1], "n": n,
               "noise_seeds": 1, "training_seeds": [1, 1], "margin": claim["within"]}  # fmt: skip
    return Finding(null((low, high), inner, claim["within"]), figure, note, numbers)


def _spread(claim: Mapping[str, Any], result: Mapping[str, Any], known: Known) -> Finding:
    where, than = claim["where"], claim["than"]
    group = (result.get("components") or {}).get(where["group"])
    _, evaluation = known.get(than["experiment"], (None, None))
    other = comparison(evaluation, than) if evaluation else None
    if group is None or other is None:
        return Finding(ABSENT, note=f"{where['group']}, and {than['experiment']}")
    sd, size = group["distances"][where["metric"]], abs(other["difference"])
    figure = f"SD {sd['sd']:.4f} [{sd['low']:.4f}, {sd['high']:.4f}] over {sd['k']} seeds, against {size:.4f}"
    note = f"range of the seeds {sd['range']:.4f}; {other['n']} prompts x {sd['k']} seeds"
    numbers = {"sd": sd["sd"], "low": sd["low"], "high": sd["high"], "seeds": sd["k"], "against": size,
               "n": other["n"]}  # fmt: skip
    return Finding(exceeds(sd["low"], sd["high"], size), figure, note, numbers)


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
