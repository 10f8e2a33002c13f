"""Listening page: every prompt, every row, its scores, a player and a spectrogram, in one static page."""

from __future__ import annotations

import html
import json
import math
import os
import re
import shutil
from collections.abc import Container, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch

from fluxlight.clips.folders import clips_there, find_clips
from fluxlight.clips.read import read_clip
from fluxlight.files import read_json, sha256, write_json, write_text
from fluxlight.measures import better
from fluxlight.postprocess import SHORTEST_SECONDS, integrated_loudness
from fluxlight.prompts import Prompt, as_prompts
from fluxlight.random import permutation
from fluxlight.report.judges import NO_CARD, card_notes, card_table
from fluxlight.report.spectrogram import mel_picture, save_picture
from fluxlight.report.table import MARK, arrow, drawn, label, number

SAMPLE, SEED = 12, 0
"""Prompts of the page's random sample, and its seed: drawn before anything was heard or measured (our choice)."""


def _source(path: Path, page: Path, system: str, copy: bool) -> str:
    """Address of an audio file as the page links it: relative, or a copy beside the page."""
    if copy:
        kept = page.parent / "audio" / system / path.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        if not kept.exists() or sha256(kept) != sha256(path):
            shutil.copyfile(path, kept)
        path = kept
    return quote(os.fsencode(Path(os.path.relpath(path.resolve(), page.parent.resolve())).as_posix()))


def _picture(path: Path, page: Path, system: str) -> str:
    """Address of a clip's spectrogram, made once: its name carries the hash of the audio."""
    name = f"{path.stem[:50]}-{sha256(path)[:8]}.jpg"  # a clip's own name may be as long as names can be
    target = page.parent / "spectrograms" / system / name
    if not target.exists():
        save_picture(mel_picture(*read_clip(path)), target)
    return quote(os.fsencode(f"spectrograms/{system}/{name}"))


def _levels(page: Path, paths: Sequence[Path]) -> dict[Path, float | None]:
    """LUFS of clips, None for one without a level; measured once, kept in ``levels.json`` under the audio's hash."""
    kept = page.parent / "levels.json"
    known: dict[str, float | None] = read_json(kept) if kept.is_file() else {}
    found = {path: sha256(path)[:16] for path in paths}
    missing = {key: path for path, key in found.items() if key not in known}
    for key, path in missing.items():
        samples, rate = read_clip(path)
        long_enough = len(samples) >= SHORTEST_SECONDS * rate and bool(np.isfinite(samples).all())
        level = integrated_loudness(torch.from_numpy(samples), rate) if long_enough else -math.inf
        known[key] = round(level, 2) if math.isfinite(level) else None
    if missing:
        write_json(kept, known)
    return {path: known[key] for path, key in found.items()}


def _folders(systems: Iterable[str]) -> dict[str, str]:
    """Row names as folder names, a different one for each: "a b" and "a-b" must not share a file."""
    made: dict[str, str] = {}
    for system in systems:
        plain = name = re.sub(r"[^\w.+-]+", "-", system).strip(".")[:80] or "row"
        while name.casefold() in {other.casefold() for other in made.values()}:
            name = f"{plain}-{len(made) + 1}" if name == plain else f"{name}-"
        made[system] = name
    return made


def _clip(
    system: str, k: int, path: Path, page: Path, folder: str, scores: Mapping[str, float], best: set[str],
    optimised: Sequence[str], faults: Sequence[str], copy: bool, level: float | None,
) -> str:  # fmt: skip
    """One player with its picture and scores."""
    cells = "".join(
        f"<div{' class=best' if m in best else ''}><dt>{html.escape(label(m))}{MARK if m in optimised else ''}</dt>"
        f"<dd>{number(value, digits=2)}</dd></div>"
        for m, value in scores.items()
    )
    warn = f"<p class=fault>{html.escape('; '.join(faults))}</p>" if faults else ""
    name = html.escape(system)
    picture, source = _picture(path, page, folder), _source(path, page, folder, copy)
    return (
        f"<section class=clip data-s={k}><h3>{name}</h3>"
        f'<div class=pic><img src="{picture}" alt="mel spectrogram, {name}" loading=lazy width=360 height=96>'
        f"<i></i></div>"
        f'<audio controls preload=none src="{source}"{"" if level is None else f" data-l={level}"}></audio>'
        f"<dl>{cells}</dl>{warn}</section>"
    )


def _summary(result: Mapping[str, Any] | None, metrics: Sequence[str]) -> str:
    """Means and intervals of the first table, or nothing."""
    if not result:
        return ""
    table = next(iter(result["tables"].values()))
    optimised = result["frame"]["optimised"]
    distances = list(table["systems"][table["order"][0]].get("distances", {}))
    head = [f"{label(d)}{arrow(d)}" for d in distances] + [
        f"{label(m)}{MARK if m in optimised else ''}{arrow(m)}" for m in metrics
    ]
    lines = []
    for name in table["order"]:
        entry = table["systems"][name]
        values = [(v["value"], v) for v in entry.get("distances", {}).values()]
        values += [(entry["scores"][m]["mean"], entry["scores"][m]) for m in metrics if m in entry["scores"]]
        cells = "".join(f"<td>{v:.3f}<small>{i['low']:.3f} to {i['high']:.3f}</small></td>" for v, i in values)
        lines.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    floor = table.get("floor", {})
    if distances and "unavailable" not in floor:
        means = [f"{floor[d]['mean']:.3f}<small>real against real</small>" if d in floor else "" for d in distances]
        cells = "".join(f"<td>{mean}</td>" for mean in means)
        lines.append(f"<tr class=floor><th>floor</th>{cells}{'<td></td>' * len(metrics)}</tr>")
    note = f"{table['loudness']}. Mean and 95 % interval over {drawn(table)}."
    if optimised:
        note += f" {MARK} used to train or select, so a rise there proves nothing by itself."
    heads = "".join(f"<th>{html.escape(h)}</th>" for h in head)
    body = "".join(lines)
    return (
        f"<div class=scroll><table><thead><tr><th>row</th>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
        f"<p class=note>{html.escape(note[0].upper() + note[1:])}</p>" + _card(result)
    )


def _card(result: Mapping[str, Any]) -> str:
    """What the judges of the table are worth, folded away; how to find out where nobody has."""
    judges = result["frame"]["judges"]
    if not judges:
        return ""
    card = result.get("report_card")
    if card is None:
        return f"<p class=note>{html.escape(NO_CARD)}</p>"
    head, rows = card_table(card)
    heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th>{html.escape(row[0])}</th>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    notes = "".join(f"<p class=note>{html.escape(note)}</p>" for note in card_notes(card, judges))
    table = f"<div class=scroll><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    return f"<details><summary>What the judges are worth</summary>{table}{notes}</details>"


def _metrics(scores: Mapping[str, Mapping[str, Mapping[str, float]]], result: Mapping[str, Any] | None) -> list[str]:
    """Measures in table order."""
    if result:
        return list(next(iter(result["tables"].values()))["metrics"])
    return list(dict.fromkeys(m for rows in scores.values() for row in rows.values() for m in row))


def _plots(page: Path) -> str:
    """The plots and the full table that lie beside the page, folded away."""
    pictures = sorted(page.parent.glob("plots/*.png"))
    link = '<p><a href="table.md">Full table with tests</a></p>' if (page.parent / "table.md").exists() else ""
    images = "".join(f'<img src="plots/{quote(p.name)}" alt="{html.escape(p.stem)}" loading=lazy>' for p in pictures)
    return f"<details><summary>Plots and tests</summary>{link}{images}</details>" if link or images else ""


def _best(scores: Mapping[str, Mapping[str, float]]) -> dict[str, set[str]]:
    """System -> measures on which it is the best for this prompt (with at least two systems)."""
    best: dict[str, set[str]] = {system: set() for system in scores}
    for metric in {m for row in scores.values() for m in row} if len(scores) > 1 else ():
        sign = {"lower": -1, "higher": 1}.get(better(metric))
        if sign is not None:
            known = [system for system, row in scores.items() if metric in row]
            best[max(known, key=lambda s: sign * scores[s][metric])].add(metric)
    return best


def listening_page(
    page: str | os.PathLike[str], prompts: Sequence[Prompt | Mapping[str, Any]],
    systems: Mapping[str, str | os.PathLike[str]], scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    result: Mapping[str, Any] | None = None, title: str = "Every prompt, every row", copy: bool = False,
    whole: Sequence[Prompt] | None = None, partial: Container[str] | bool = False,
) -> Path:  # fmt: skip
    """Write ``index.html`` with its spectrograms; those of clips that it no longer shows go.

    Args:
        page: the HTML file to write; pictures go beside it.
        prompts: ``{id, prompt}`` rows.
        systems: row name -> folder of clips, in table order.
        scores: prompt id -> system -> measure -> value (scores.json of an evaluation).
        result: table.json of the evaluation, for the summary on top, the marks and the faults.
        title: heading.
        copy: copy the audio beside the page, so that the folder can be moved; otherwise it is linked where it is.
        whole: all prompts the folders have clips of, where only some of them are shown.
        partial: rows that may lack clips: some, or all of them. A prompt without any clip is left out.
    """
    page, slice_prompts = Path(page), as_prompts(prompts)
    ids = [p.id for p in slice_prompts]
    held = [p.id for p in whole or slice_prompts]
    found = {
        name: clips_there(folder, ids, name)
        if partial is True or (partial and name in partial)
        else dict(zip(held, find_clips(folder, held, name), strict=True))
        for name, folder in systems.items()
    }
    slice_prompts = [p for p in slice_prompts if any(p.id in of_row for of_row in found.values())]
    ids = [p.id for p in slice_prompts]
    paths = {name: {i: of_row[i] for i in ids if i in of_row} for name, of_row in found.items()}
    metrics = _metrics(scores, result)
    optimised = result["frame"]["optimised"] if result else []
    faults = result["faults"] if result else {}
    names = list(systems)
    levels = _levels(page, [path for of_row in paths.values() for path in of_row.values()])
    folders = _folders(names)
    cards = []
    for p, place in zip(slice_prompts, permutation(len(ids), SEED), strict=True):
        said = {name: scores.get(p.id, {}).get(name, {}) for name in names}
        best = _best(said)
        clips = "".join(
            _clip(name, k, paths[name][p.id], page, folders[name],
                  {m: said[name][m] for m in metrics if m in said[name]}, best[name], optimised,
                  faults.get(name, {}).get(p.id, ()), copy, levels[paths[name][p.id]])
            for k, name in enumerate(names) if p.id in paths[name]
        )  # fmt: skip
        values = html.escape(json.dumps([[said[name].get(m) for m in metrics] for name in names]), quote=True)
        cards.append(
            f'<article data-v="{values}" data-r={place}>'
            f"<header><b>{html.escape(p.id)}</b><p>{html.escape(p.prompt)}</p></header>"
            f"<div class=row>{clips}</div></article>"
        )
    template = (files("fluxlight.report") / "listening.html").read_text(encoding="utf-8")
    filled = {
        "TITLE": html.escape(title),
        "SUMMARY": _summary(result, metrics) + _plots(page),
        "CARDS": "\n".join(cards),
        "NAMES": json.dumps(names).replace("<", "\\u003c"),
        "SAMPLE": str(min(SAMPLE, len(ids))),
        "SEED": str(SEED),
        "METRICS": json.dumps([label(m) for m in metrics]).replace("<", "\\u003c"),
    }
    # in one pass: a prompt that holds a key of the template is a prompt
    page_text = re.sub(r"@@(\w+)@@", lambda key: filled[key[1]], template)
    write_text(page, page_text)
    _forget(page.parent / "spectrograms", page_text)
    return page


def _forget(pictures: Path, page: str) -> None:
    """Remove spectrograms that the page does not show: of clips that were made again since."""
    for path in pictures.glob("*/*.jpg"):
        shown = quote(os.fsencode(f"{pictures.name}/{path.parent.name}/{path.name}"))
        if re.search(r"-[0-9a-f]{8}\.jpg$", path.name) and shown not in page:
            path.unlink(missing_ok=True)
