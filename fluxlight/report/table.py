"""Table: the result of an evaluation as Markdown, with what a number needs to be believed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fluxlight.clips.faults import faulty_lines
from fluxlight.measures import MEASURES, better

MARK = "†"


def label(name: str) -> str:
    """Heading of a measure: ``clap_b`` is "CLAP-B", ``reward_a`` is "reward A"."""
    if name in MEASURES:
        return MEASURES[name].label
    head, _, tail = name.partition("_")
    if head.lower() in ("clap", "fad", "kad", "mad"):
        return head.upper() + (f"-{tail.upper()}" if tail else "")
    return f"{head} {tail.upper() if len(tail) == 1 else tail}".strip()


def arrow(measure: str) -> str:
    """Which way a measure is better, as it stands in a heading; some have no better side."""
    return {"lower": " ↓", "higher": " ↑"}.get(better(measure), "")


def number(value: float, signed: bool = False, digits: int = 3) -> str:
    """A value as it is printed, without a negative zero."""
    value = round(value, digits) + 0.0
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def probability(p: float) -> str:
    """A p value as it is usually printed."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}"


def with_interval(value: float, low: float, high: float, signed: bool = False) -> str:
    """A value and its interval in brackets, with more digits where the interval is narrow."""
    return f"{number(value, signed, _digits(low, high))} {between(low, high, signed)}"


def between(low: float, high: float, signed: bool = True) -> str:
    """An interval in brackets."""
    digits = _digits(low, high)
    return f"[{number(low, signed, digits)}, {number(high, signed, digits)}]"


def _digits(low: float, high: float) -> int:
    return 3 if high - low >= 0.5 else 4


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], numeric: int = 1) -> str:
    """A Markdown table; columns from ``numeric`` on are right-aligned."""
    rule = [("---" if k < numeric else "---:") for k in range(len(head))]
    lines = [head, rule, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def means_table(table: Mapping[str, Any], optimised: Sequence[str]) -> str:
    """Rows of the table: set distances with their floor, then mean scores, all with 95 % intervals."""
    systems = table["systems"]
    distances = list(next(iter(systems.values())).get("distances", {}))
    marked = [label(m) + (f" {MARK}" if m in optimised else "") + arrow(m) for m in table["metrics"]]
    owns = "own_vs_shuffled" in next(iter(systems.values()))
    head = ["row", *(f"{label(d)}{arrow(d)}" for d in distances), *marked]
    head += ["own - shuffled prompt"] if owns else []
    within = any("diversity_per_prompt" in entry for entry in systems.values())
    head += ["diversity within a prompt"] if within else []
    wide = any("spread" in entry for entry in systems.values())
    head += ["spread", "spread's distance"] if wide else []
    rows = []
    for name in table["order"]:
        entry = systems[name]
        cells = [with_interval(v["value"], v["low"], v["high"]) for v in entry.get("distances", {}).values()]
        # by name: a result that was read from table.json has its keys in another order
        scores = [entry["scores"][metric] for metric in table["metrics"]]
        cells += [with_interval(v["mean"], v["low"], v["high"]) for v in scores]
        if owns:
            own = entry["own_vs_shuffled"]
            interval = with_interval(own["difference"], own["low"], own["high"], True)
            cells.append(f"{interval}, p {probability(own['p_t'])}")
        if within:
            known = "diversity_per_prompt" in entry
            cells.append(f"{number(entry['diversity_per_prompt'])} ({entry['seeds']} seeds)" if known else "")
        if wide:
            spread = entry.get("spread")
            cells += [number(spread["rms"]), number(spread["distance"])] if spread else ["", ""]
        rows.append([name, *cells])
    floor = table.get("floor", {})
    if distances and "unavailable" not in floor:
        cells = [with_interval(floor[d]["mean"], floor[d]["low"], floor[d]["high"]) if d in floor else ""
                 for d in distances]  # fmt: skip
        rows.append(["*real against real (floor)*", *cells, *[""] * (len(head) - 1 - len(distances))])
    return grid(head, rows)


def _or_dash(value: float | None, form: str) -> str:
    """A value, or a dash where there is none: differences that are all equal have no t."""
    return "-" if value is None else format(value, form)


def comparisons_table(table: Mapping[str, Any], optimised: Sequence[str]) -> str:
    """Paired comparisons: difference, interval, test, Holm over the table, wins, effect, smallest effect."""
    head = [
        "row",
        "against",
        "measure",
        "difference [95 %]",
        "bootstrap [95 %]",
        "t",
        "p",
        "p Holm",
        "Wilcoxon p",
        "wins",
        "d_z",
        "could see",
    ]
    margins = any("margin" in c for c in table["comparisons"])
    head += ["unchanged within"] if margins else []
    rows = []
    for c in table["comparisons"]:
        name = label(c["metric"]) + (f" {MARK}" if c["metric"] in optimised else "")
        scored = "p_wilcoxon" in c
        counted = "wins" in c
        verdict = [f"{c['margin']:g}: {c['equivalence']}" if "margin" in c else ""] if margins else []
        rows.append([
            c["system"], c["against"], name,
            with_interval(c["difference"], c["low"], c["high"], True),
            between(c["bootstrap_low"], c["bootstrap_high"]) if scored else "",
            _or_dash(c["t"], ".1f") if scored else "", probability(c["p"]), probability(c["p_holm"]),
            probability(c["p_wilcoxon"]) if scored else "",
            f"{c['wins']}/{c['n']}" if counted else "", _or_dash(c["effect"], "+.2f") if scored else "",
            number(c["smallest"], digits=3 if c["smallest"] >= 0.1 else 4), *verdict,
        ])  # fmt: skip
    return grid(head, rows, numeric=3)


def _notes(table: Mapping[str, Any], frame: Mapping[str, Any]) -> list[str]:
    optimised = frame["optimised"]
    notes = [f"- Loudness: {table['loudness']}."]
    delivered = {name: entry["delivered_lufs"] for name, entry in table["systems"].items() if "delivered_lufs" in entry}
    if delivered:
        said = [f"{name} {'silent' if lufs is None else number(lufs, digits=1)}" for name, lufs in delivered.items()]
        notes.append(f"- The files as they are, mean LUFS: {', '.join(said)}.")
    notes += [f"- **{hint}**" for hint in table.get("hints", [])]
    notes.append(f"- Intervals and tests are over {drawn(table)}.")
    if any("resamples" in c for c in table["comparisons"]):
        error = max(c["monte_carlo"] for c in table["comparisons"])
        notes.append(
            f"- Resampling of whole rows, seed {frame['statistics_seed']}: {frame['resamples']} permutations; "
            f"{frame['draws']} draws of each interval, the same in every table, which moves an end by up to "
            f"{number(error, digits=4)}."
        )
    if "reference" in table:
        r = table["reference"]
        notes.append(
            f"- FAD and KAD: {r['n']} reference clips ({r['identity']}), embedder {r['embedder']}, "
            f"{r['sample_rate']} Hz, windows: {'one embedding per clip' if r['windows'] == 'clip' else r['windows']}; "
            f"interval of one value: jackknife, of a difference: joint bootstrap of prompts; test: swap permutation."
        )
        if "reference_windows" in table:
            w = table["reference_windows"]
            notes.append(
                f"- {label('fad_windows')}: fadtk's definition, {w['n']} windows of {w['clips']} reference clips "
                f"({w['identity']}); on another scale than FAD."
            )
        distances = next(iter(table["systems"].values()))["distances"]
        known = [kind for name, kind in MEASURES.items() if name in distances and kind.note]
        notes += [f"- {kind.note}" for kind in known]
        floor = table["floor"]
        if "unavailable" in floor:
            notes.append(f"- Real-vs-real floor: not available, {floor['unavailable']}.")
        else:
            f = floor["fad"]
            notes.append(
                f"- Floor: {f['n']} reference clips held out against the other {f['rest']}, {f['repeats']} times. "
                f"FAD at n = {f['n']} is mostly bias: read it as a distance above the floor. KAD is unbiased."
            )
    if any("spread" in entry for entry in table["systems"].values()):
        notes.append(
            "- Spread: rms of the normalised latents, 1 for the training data (above: wider, below: narrower); its "
            "distance to the data's, in the data's standard deviations per channel. FAD follows it."
        )
    tests = len(table["comparisons"])
    least = max((1 / (c["resamples"] + 1) for c in table["comparisons"] if "resamples" in c), default=0.0)
    if tests * least >= 0.05:
        notes.append(
            f"- {round(1 / least) - 1} permutations cannot bring any measure of whole rows below Holm p 0.05 in a "
            f"table of {tests} tests: at least {20 * tests} are needed (--resamples)."
        )
    if marked := [label(m) for m in table["metrics"] if m in optimised]:
        notes.append(
            f"- {MARK} {', '.join(marked)}: used to train or select, so a rise there proves nothing by itself."
        )
    for a in table.get("agreement", []):
        within = ", ".join(f"{name} {value:+.2f}" for name, value in a["within"].items())
        pair = " and ".join(label(j) for j in a["judges"])
        notes.append(
            f"- Rank agreement of {pair} over {a['n']} clips: Spearman {a['spearman']:+.2f} (within: {within})."
        )
    return notes


def drawn(table: Mapping[str, Any]) -> str:
    """What the intervals of a table are over, in words, with what one seed leaves open."""
    systems = table["systems"].values()
    n = next(iter(systems))["n"]
    counts = {(entry["noise_seeds"], entry["training_seeds"]) for entry in systems}
    if counts == {(1, 1)}:
        return f"{n} prompts; one noise seed and one training seed a row, so what other seeds do is not in them"
    said = "; ".join(
        f"{name} {seeds(entry['noise_seeds'], entry['training_seeds'])}" for name, entry in table["systems"].items()
    )
    few = [entry["training_seeds"] for entry in systems if 1 < entry["training_seeds"] < 6]
    known = "; what so few training seeds say of their spread is known to a factor of about 3" if few else ""
    return f"{n} prompts x noise seeds x training seeds, crossed ({said}){known}"


def seeds(noises: int, trainings: int) -> str:
    """How many seeds of either kind, in words."""
    return f"{noises} noise seed{'s' * (noises > 1)} x {trainings} training seed{'s' * (trainings > 1)}"


def markdown(result: Mapping[str, Any], title: str = "Evaluation") -> str:
    """The whole result as Markdown."""
    frame, optimised = result["frame"], result["frame"]["optimised"]
    parts = [f"# {title}", ""]
    judges = ", ".join(f"{label(name)} = {identity}" for name, identity in frame["judges"].items())
    judges = f"; judges: {judges}" if judges else ""
    parts.append(f"n = {frame['n']} prompts ({frame['prompts']}), the same for every row{judges}.")
    if "half" in frame:
        other = {"report": "Settings are chosen on the other half", "choose": "Report on the other half"}
        parts += ["", f"The half of the slice that is kept to {frame['half']}, by the hash of each id: "
                  f"{other[frame['half']]} (`--half`)."]  # fmt: skip
    known = {"n", "prompts", "judges", "optimised", "interval", "left_out", "statistics_seed", "resamples", "draws",
             "half"}  # fmt: skip
    extra = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in sorted(frame.items()) if key not in known)
    parts += [f"{extra[0].upper()}{extra[1:]}.", ""] if extra else [""]
    for table in result["tables"].values():
        parts += [f"## {table['loudness'][0].upper()}{table['loudness'][1:]}", "", means_table(table, optimised), ""]
        parts += [*_notes(table, frame), ""]
        if table["comparisons"]:
            parts += ["### Paired comparisons", "", comparisons_table(table, optimised), ""]
            parts.append(
                "p Holm corrects over all tests of this table; d_z is the mean difference over its standard deviation; "
                '"could see" is the smallest difference this n detects with 80 % power.'
                + (' "Unchanged within" a margin: two one-sided tests at 5 %, the 90 % interval inside it.'
                   if any("margin" in c for c in table["comparisons"]) else "")
            )
            parts.append("")
    if frame["judges"]:
        from fluxlight.report.judges import card_lines

        parts += card_lines(result.get("report_card"), frame["judges"])
    first = next(iter(result["tables"].values()))
    info = {name: first["systems"][name]["info"] for name in first["order"] if first["systems"][name]["info"]}
    if info:
        keys = sorted({key for row in info.values() for key in row})
        parts += ["## Where the rows come from", "", grid(["row", *keys], [[name, *(str(row.get(k, "")) for k in keys)]
                  for name, row in info.items()], numeric=len(keys) + 1), ""]  # fmt: skip
    if any("delivered_lufs" in e for e in next(iter(result["tables"].values()))["systems"].values()):
        parts += ["## Faulty clips", "", *_faults(result), ""]
    return "\n".join(parts).rstrip() + "\n"


def _faults(result: Mapping[str, Any]) -> list[str]:
    first = next(iter(result["tables"].values()))
    lines = faulty_lines({**result["faults"], "the reference": first.get("reference", {}).get("faults", {})})
    left_out = result["frame"]["left_out"]
    lines.append(f"- Left out of every row: {', '.join(left_out)}." if left_out else "- No prompt was left out.")
    return lines
