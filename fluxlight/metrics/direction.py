"""Which way of a measure is better, by its name however it is spelled; a name that says nothing has no direction."""

from __future__ import annotations

import re
from collections.abc import Iterable

# words of a measure's name (our choice): what is lower when better, what is higher, what turns either round
_LOWER = frozenset(
    "fad fadtk kad mad fd fid kd kid mmd kl kld jsd divergence distance frechet frechetdistance wer cer error loss lsd "
    "mse mae rmse perplexity ppl latency rtf".split()
)
_HIGHER = frozenset(
    "clap clapscore laion laionclap reward rewards tunejury mos cmos isc inception accuracy acc recall precision f1 "
    "mauve cosine similarity sim win wins winrate preference elo aesthetics aesthetic musicality coherence relevance "
    "ccs ce cu pq pc auc map mrr snr sdr sisdr stoi pesq quality".split()
)
_TURNING = frozenset(
    "neg negative negated minus inv inverse inverted inverse improvement reduction change delta diff difference gain "
    "drop over below".split()
)


def direction(measure: str) -> str:
    """"lower" or "higher" is better, or "" where the name does not say.

    "FAD-CLAP", " fad" and "fad_windows" are distances; "CLAP-B" and "reward A" are scores; "diversity", "fda",
    "-FAD" and "FAD improvement" are neither.
    """
    said = {way for sign, way in (("↓", "lower"), ("↑", "higher")) if sign in measure}
    if said or re.match(r"\s*\d*\s*[-−/]", measure):
        return said.pop() if len(said) == 1 else ""
    words = set(re.findall(r"[a-z]+\d?|\d+", measure.casefold()))
    words |= {word.rstrip("0123456789") for word in words}
    if words & _TURNING:
        return ""
    # a distance is named after the embedder it stands on: FAD-CLAP is a FAD
    return "lower" if words & _LOWER else "higher" if words & _HIGHER else ""


def arrow(measure: str) -> str:
    """The direction as it stands in a heading, with a space before it; nothing where there is none."""
    return {"lower": " ↓", "higher": " ↑", "": ""}[direction(measure)]


def lower_measures(measures: Iterable[str], lower: Iterable[str] = (), higher: Iterable[str] = ()) -> set[str]:
    """Those of ``measures`` in which small wins: what is named, else what the name of the measure says.

    Args:
        measures: names, in any spelling.
        lower, higher: names (of whatever case) that are said to be the one or the other.

    Raises:
        ValueError: a name that is no measure, said to be both, or a measure whose direction is not known.
    """
    given = list(dict.fromkeys(measures))
    said = [{name.strip().casefold() for name in names} for names in (lower, higher)]
    if unknown := sorted((said[0] | said[1]) - {m.strip().casefold() for m in given}):
        raise ValueError(f"{', '.join(unknown)} is no measure here (there are {', '.join(given)})")
    if both := sorted(said[0] & said[1]):
        raise ValueError(f"{', '.join(both)} is said to be lower and higher: keep one of the two")
    ways = {m: _way(m, *said) for m in given}
    if blank := [m for m, way in ways.items() if not way]:
        raise ValueError(f"which way of {', '.join(blank)} is better is not known: give --lower or --higher")
    return {m for m, way in ways.items() if way == "lower"}


def _way(measure: str, lower: set[str], higher: set[str]) -> str:
    name = measure.strip().casefold()
    return "lower" if name in lower else "higher" if name in higher else direction(measure)
