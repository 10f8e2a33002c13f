"""Page of the headroom ladder: what every judge says of each step, and what stands between rows and real clips."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fluxlight.evaluation.judging import PROTOCOLS
from fluxlight.files import write_json, write_text
from fluxlight.report.table import MARK, arrow, grid, label, number, with_interval


def markdown(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    frame, steps, metrics = result["frame"], result["steps"], result["metrics"]
    marked = {m: label(m) + (f" {MARK}" if m in frame["optimised"] else "") for m in metrics}
    judges = ", ".join(f"{label(name)} = {identity}" for name, identity in frame["judges"].items())
    lines = [
        "# Headroom: codec, generator or judge", "",
        f"n = {frame['n']} prompts ({frame['clips']}), {PROTOCOLS[frame['loudness']]}; codec: {frame['codec']}; "
        f"reference: {frame['reference'] or 'none'}; judges: {judges}.", "",
        grid(["step", *(marked[m] + arrow(m) for m in metrics)],
             [[name, *(with_interval(*(steps[name][m][key] for key in ("value", "low", "high"))) for m in metrics)]
              for name in result["order"]]), "",
        "Noise: on the normalised latents of the round trip, in standard deviations; faulty clips have other prompts.",
        "",
    ]  # fmt: skip
    for name, gaps in ((name, result["gaps"][name]) for name in result["order"] if name in result["gaps"]):
        rows = [[marked[m], *(number(g[part], True) for part in ("gap", "codec", "generator")),
                 "-" if g["as_noise"] is None else f"{g['as_noise']:.2f} sd", g["verdict"]]
                for m, g in ((m, gaps[m]) for m in metrics)]
        lines += [f"## {name} against real clips", "",
                  grid(["measure", "gap (+: worse)", "of it codec", "of it generator", "like noise of", "what limits"],
                       rows), ""]  # fmt: skip
    if any(m in frame["optimised"] for m in metrics):
        lines.append(f"{MARK} used to train or select: a small gap there proves nothing by itself.")
    return "\n".join(lines).rstrip() + "\n"


def write_page(result: Mapping[str, Any], out: str | os.PathLike[str]) -> None:
    """Write headroom.json and headroom.md into ``out``."""
    write_json(Path(out) / "headroom.json", dict(result))
    write_text(Path(out) / "headroom.md", markdown(result))
