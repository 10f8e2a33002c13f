"""Everything that votes say about two systems, as plain values and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fluxlight.listening.ballots import Ballot, systems_of
from fluxlight.listening.judges import judged, margins_of, preference
from fluxlight.listening.reliability import reliability
from fluxlight.listening.winrate import Array, Rate, alpha_of_look, powered_rate, sign_test, vote_rate, votes_needed
from fluxlight.metrics.statistics import t_interval

TRUTHS = (0.55, 0.6, 0.7)
"""Win rates for which the votes needed are said (our choice)."""
Scores = Mapping[str, Mapping[str, Mapping[str, float]]]


def summarise(
    ballots: Sequence[Ballot], system: str, scores: Scores | None = None, look: int | None = None, alpha: float = 0.05
) -> dict[str, Any]:
    """Win rate of ``system`` over the other one, with everything that qualifies it.

    A prompt is the unit: several listeners' votes on it are averaged. Repetitions and clips against themselves tell of
    the listener and never of the systems.

    Args:
        ballots: of one session.
        system: whose rate is given.
        scores: scores.json of an evaluation of both systems on all prompts, null without judges.
        look: which look at growing votes this is; null: the only one that was planned. Each look spends a part of
            alpha (METHODS section 3), so that looking often raises no false alarm.
        alpha: one minus the coverage of all intervals.
    """
    names = systems_of(ballots)
    if system not in names:
        raise ValueError(f"--of {system}: no such system in the votes: choose {' or '.join(names)}")
    other = next(name for name in names if name != system)
    spent = alpha if look is None else alpha_of_look(look, alpha)
    pairs = [ballot for ballot in ballots if ballot.kind == "pair"]
    said: dict[str, list[float]] = {}
    for ballot in pairs:
        said.setdefault(ballot.id, []).append(ballot.of(system))
    if len(said) < 2:
        raise ValueError(f"votes on {len(said)} prompts: a win rate with an interval needs at least 2")
    votes = np.array([np.mean(points) for points in said.values()])
    wins, losses = int((votes > 0.5).sum()), int((votes < 0.5).sum())
    plain = vote_rate(votes, spent)
    result: dict[str, Any] = {
        "system": system, "other": other, "alpha": spent, "look": look, "prompts": len(votes), "votes": len(pairs),
        "wins": wins, "losses": losses, "ties": len(votes) - wins - losses,
        "p_sign": sign_test(wins, losses), "rate": _plain(plain),
        "listeners": [asdict(row) for row in reliability(ballots)], "over_listeners": _over(pairs, system),
        "judges": {},
    }  # fmt: skip
    variance = _variance(votes, plain)
    result["needed"] = _needed(float(plain.rate), variance, 0.0, spent)
    for name, entry in _judges(scores, list(said), votes, pairs, system, other, spent).items():
        explained = max(0.0, 1 - len(votes) / entry["rate"]["worth"])
        rest = max(1e-9, 1 - len(votes) / entry["prompts"])
        entry["explained"] = min(explained / rest, 1.0)
        entry["needed"] = _needed(entry["rate"]["rate"], variance, entry["explained"], spent)
        result["judges"][name] = entry
    return result


def _judges(
    scores: Scores | None, ids: Sequence[str], votes: Array, pairs: Sequence[Ballot], system: str, other: str,
    alpha: float,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    if scores is None:
        return {}
    found = margins_of(scores, system, other)
    place = {id: k for k, id in enumerate(found["ids"])}
    if lost := [id for id in ids if id not in place]:
        raise ValueError(f"scores: prompt {lost[0]!r} has votes but no scores: evaluate the prompts of this session")
    at = np.array([place[id] for id in ids])
    others = np.setdiff1d(np.arange(len(place)), at)
    entries = {}
    for name, margin in found["margins"].items():
        liked = preference(margin)
        single = judged([margin[place[b.id]] for b in pairs], [b.of(system) for b in pairs], [b.id for b in pairs])
        entries[name] = {
            "rate": _plain(powered_rate(votes, liked[at], liked[others], alpha)),
            "prompts": len(place),
            "judge": float((np.sign(margin) / 2 + 0.5).mean()),
            "votes": asdict(single) if single else None,
        }
    return entries


def _plain(rate: Rate) -> dict[str, float]:
    return {name: float(value) for name, value in vars(rate).items()}


def _variance(votes: Array, rate: Rate) -> float:
    """Variance of one prompt's vote; of votes that are all alike, what their interval allows."""
    far = float(rate.low if rate.rate > 0.5 else rate.high)
    return float(votes.var(ddof=1)) or far * (1 - far)


def _needed(rate: float, variance: float, explained: float, alpha: float) -> dict[str, float | None]:
    """Prompts to vote on: if the rate found is the truth, and for some truths; None: no number would do."""
    found = {"found": rate, **{f"{truth:.2f}": truth for truth in TRUTHS}}
    needed = {name: votes_needed(truth, variance, explained, alpha) for name, truth in found.items()}
    return {name: value if np.isfinite(value) else None for name, value in needed.items()}


def _over(pairs: Sequence[Ballot], system: str) -> dict[str, float] | None:
    """Mean of the listeners' own rates with a t interval over listeners; None for one listener."""
    own: dict[str, list[float]] = {}
    for ballot in pairs:
        own.setdefault(ballot.listener, []).append(ballot.of(system))
    if len(own) < 2:
        return None
    mean = t_interval([float(np.mean(points)) for points in own.values()])
    return {"rate": mean.mean, "low": max(0.0, mean.low), "high": min(1.0, mean.high), "n": mean.n}


def verdict(result: Mapping[str, Any]) -> str:
    """What the votes alone settle, in a sentence: the sign test decides."""
    if result["p_sign"] < result["alpha"]:
        better = result["system"] if result["wins"] > result["losses"] else result["other"]
        return f"listeners prefer {better} (sign test p = {result['p_sign']:.3g})"
    return f"not settled (sign test p = {result['p_sign']:.3g})"


def markdown(result: Mapping[str, Any]) -> str:
    """The summary as a person reads it."""
    level = f"{100 * (1 - result['alpha']):.4g} %"
    lines = [
        f"# {result['system']} over {result['other']}: {verdict(result)}", "",
        f"{result['votes']} votes on {result['prompts']} prompts: {result['wins']} won, {result['losses']} lost, "
        f"{result['ties']} tied (a tie counts half in the rate and not in the sign test).", "",
        f"| estimate | win rate | {level} interval | worth votes | needed if that is true | if .55 | if .60 | if .70 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        _line("votes alone", result["rate"], result["needed"]),
        *(_line(f"votes and {name}", entry["rate"], entry["needed"]) for name, entry in result["judges"].items()), "",
        "needed: prompts with votes for an interval that leaves out .5 in four of five cases; with a judge, "
        "beside its scores of very many prompts. Of two judges, name the one that counts before you look.",
    ]  # fmt: skip
    if over := result["over_listeners"]:
        lines += ["", f"For other listeners, these prompts: {_interval(over)} over {over['n']:.0f} listeners (95 %); "
                      "the rows above are for these listeners, other prompts."]  # fmt: skip
    if result["look"]:
        lines += ["", f"Look {result['look']}: it spends {result['alpha']:.2g} of the level of all looks."]
    lines += ["", "| listener | votes | repeated: same, reversed | identical: no preference | A, B (p) |",
              "|---|---:|---:|---:|---:|"]  # fmt: skip
    lines += [
        f"| {r['listener']} | {r['votes']} | {r['same']}, {r['reversed']} of {r['repeats']} | "
        f"{r['heard_none']} of {r['identical']} | {r['side_a']}, {r['side_b']} ({r['p_side']:.2g}) |"
        for r in result["listeners"]
    ]
    if result["judges"]:
        lines += ["", "| judge | own win rate | accuracy | n | slope (1: calibrated) | calibration error (by chance) |",
                  "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
        lines += [_judge(name, entry) for name, entry in result["judges"].items()]
    return "\n".join(lines) + "\n"


def _line(name: str, rate: Mapping[str, float], needed: Mapping[str, float | None]) -> str:
    counts = " | ".join("no number" if value is None else f"{value:.0f}" for value in needed.values())
    low, high = rate["low"], rate["high"]
    return f"| {name} | {rate['rate']:.3f} | [{low:.3f}, {high:.3f}] | {rate['worth']:.0f} | {counts} |"


def _interval(mean: Mapping[str, float]) -> str:
    return f"{mean['rate']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}]"


def _judge(name: str, entry: Mapping[str, Any]) -> str:
    said = entry["votes"]
    if said is None:
        return f"| {name} | {entry['judge']:.3f} | | 0 | | |"
    return (
        f"| {name} | {entry['judge']:.3f} | {_interval({**said, 'rate': said['accuracy']})} | {said['n']} "
        f"| {said['slope']:.2f} | {said['error']:.3f} (up to {said['chance']:.3f}) |"
    )
