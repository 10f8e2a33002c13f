"""``fluxlight report-card``: what the judges of a world are worth, once, as the file that tables show."""

from __future__ import annotations

import argparse
from pathlib import Path

from fluxlight.cli.arguments import Arguments, within


def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    p = Arguments(
        prog="fluxlight report-card",
        description="Measure how often the judges prefer a clean clip to a damaged one and the own caption to "
        "another's, and how far they agree; every table of these judges then shows it.",
        epilog="Example: fluxlight report-card --judges my_world.yaml --audio real/ --prompts real.csv --jobs 2",
    )
    add = p.add_argument
    add("--judges", default="embedded", metavar="WORLD", help="embedded, published, or a world's YAML (embedded)")
    add("--audio", help="folder of clean clips <prompt id>.wav|flac|mp3 (default: slice of the embedded corpus)")
    add("--prompts", help="prompts of --audio: TSV, CSV, JSON or JSONL with id and prompt, a text, or a prompt store")
    add("--clips", type=within(4), default=100, help="clips that are damaged (100)")
    add("--loudness", choices=("locked", "delivered"), default="locked", help="what the judges hear (locked)")
    add("--error-rates", metavar="FILE", help="error_rates.json of these judges: its false alarms go on the card")
    add("--jobs", type=within(1), default=1, help="processes (1)")
    add("--out", metavar="FILE", help="the card (<cache folder>/cards/<world>.json, where tables look for it)")
    return p


def main(args: list[str]) -> int:
    """Run the verb; what was judged before is cached, so a run that was stopped goes on."""
    given = parser().parse_args(args)
    if bool(given.audio) != bool(given.prompts):
        raise ValueError("--audio and --prompts belong together: give both, or neither for the embedded corpus")
    from fluxlight.evaluation.judges import load_judges
    from fluxlight.files import cache_folder, read_json, write_json
    from fluxlight.report.judges import card_lines
    from fluxlight.validity.card import card_of
    from fluxlight.validity.climb import climb
    from fluxlight.validity.sources import corpus_clips, folder_clips

    rates = read_json(given.error_rates) if given.error_rates else None
    judges = load_judges(given.judges)
    if given.audio:
        clips, material = folder_clips(given.audio, given.prompts, given.clips), f"clips of {Path(given.audio).name}"
    else:
        clips, material = corpus_clips("slice", 0, given.clips, given.jobs), "slice of the embedded corpus"
    sound = [clip for clip in clips if not clip.faults]
    if len(sound) < 4:
        raise ValueError(f"--audio: {len(sound)} of {len(clips)} clips are without a fault, at least 4 are needed")
    rows = climb(sound, judges, protocol=given.loudness, jobs=given.jobs, progress=True)
    card = card_of(rows, judges, given.loudness, material, rates)
    out = Path(given.out) if given.out else cache_folder() / "cards" / f"{Path(given.judges).stem}.json"
    write_json(out, card)
    print("\n".join(card_lines(card, judges.identities())))
    print(f"card -> {out}")
    return 0
