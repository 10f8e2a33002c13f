"""``fluxlight headroom``: what part of a model's gap to real clips is the codec's, the generator's or the judge's."""

from __future__ import annotations

import argparse
from itertools import chain
from typing import Any

from fluxlight.cli.arguments import Arguments, named, within

ROW = named("NAME=FOLDER")


def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    p = Arguments(
        prog="fluxlight headroom",
        description="Judge real clips, their codec round trip, noise on their latents, faulty clips and models' rows.",
        epilog="Example: fluxlight headroom --row row1=runs/tiny/row1/slice --clips 50 --jobs 2 --out headroom",
    )
    add = p.add_argument
    add("--row", type=ROW, action="append", default=[], metavar="NAME=FOLDER", help="clips of a model on these prompts")
    add("--audio", help="folder of real clips <prompt id>.wav|flac|mp3 (default: slice of the embedded corpus)")
    add("--prompts", help="prompts of --audio: TSV, CSV, JSON or JSONL with id and prompt, a text, or a prompt store")
    add("--clips", type=within(3), default=50, help="prompts, the first so many (50)")
    add("--faulty", help="folder of clips with known faults (default, with the corpus: faulty training clips)")
    add("--faulty-prompts", help="prompts of --faulty")
    add("--noise", type=within(0, kind=float), nargs="+", default=[0.2, 0.4, 0.8], metavar="SD",
        help="noise on the latents, in standard deviations (0.2 0.4 0.8)")  # fmt: skip
    add("--judges", default="embedded", metavar="WORLD", help="world of codec and judges, or the path of its YAML")
    add("--reference", action="append", default=[], metavar="PATH",
        help="folder of audio or statistics file for FAD and KAD (default: reference split of the corpus)")  # fmt: skip
    add("--reference-clips", type=within(0), default=300, help="clips of that split, 0 for no FAD and KAD (300)")
    add("--loudness", choices=("locked", "delivered"), default="locked", help="what the judges hear (locked)")
    add("--jobs", type=within(1), default=1, help="processes (1)")
    add("--out", required=True, help="folder for headroom.json and headroom.md")
    return p


def main(args: list[str]) -> int:
    """Run the verb."""
    given = parser().parse_args(args)
    for one, other in (("audio", "prompts"), ("faulty", "faulty_prompts")):
        if bool(getattr(given, one)) != bool(getattr(given, other)):
            raise ValueError(f"--{one} and --{other.replace('_', '-')} belong together: give both or neither")
    if min(given.noise) <= 0 or sorted(set(given.noise)) != given.noise:
        raise ValueError(f"--noise {' '.join(f'{x:g}' for x in given.noise)}: give rising levels above 0")
    from fluxlight.evaluation.judges import load_judges
    from fluxlight.files import no_double
    from fluxlight.validity.headroom import FAULTY, ROUND_TRIP, headroom, judged, noise_name, steps
    from fluxlight.validity.headroom_page import markdown, write_page
    from fluxlight.validity.sources import references, row_clips

    own = ["real", ROUND_TRIP, FAULTY, *map(noise_name, given.noise)]
    no_double([*own, *(name for name, _ in given.row)], "--row: name")
    judges, codec, show = load_judges(given.judges), codec_of(given.judges), True
    clips = real_clips(given)
    prompts = [clip.prompt for clip in clips]
    found = None
    if given.reference or given.reference_clips:
        found = references(given.reference, given.reference_clips, judges, [given.loudness], given.jobs, show)
    made = chain(steps(clips, codec, given.noise), ((name, row_clips(folder, prompts)) for name, folder in given.row))
    rows = [judged(name, part, judges, given.loudness, given.jobs, show) for name, part in made]
    bad = faulty_clips(given, len(clips))
    faulty = judged(FAULTY, bad, judges, given.loudness, given.jobs, show) if bad else None
    reference = found[given.loudness] if found else None
    result = headroom(rows, [name for name, _ in given.row], given.noise, reference, faulty)
    result["frame"] = {
        "n": len(clips), "clips": given.audio or "slice of the embedded corpus", "loudness": given.loudness,
        "codec": codec.identity, "judges": judges.identities(), "optimised": sorted(judges.optimised),
        "reference": reference.identity if reference else "", "noise": given.noise,
    }  # fmt: skip
    write_page(result, given.out)
    print(markdown(result))
    return 0


def codec_of(world: str) -> Any:
    """The codec of a world."""
    from fluxlight.codec import Codec
    from fluxlight.recorded import find_class
    from fluxlight.worlds import read_world

    part = (read_world(world).get("pipeline") or {}).get("codec")
    part = {"class_path": part} if isinstance(part, str) else part
    if not isinstance(part, dict) or not issubclass(find_class(part["class_path"]), Codec):
        raise ValueError(f"--judges {world}: this world's pipeline has no codec: give one in its YAML")
    return find_class(part["class_path"])(**(part.get("init_args") or {})).eval()


def real_clips(given: argparse.Namespace) -> list[Any]:
    """Real clips on the prompts of the ladder."""
    from fluxlight.validity.sources import corpus_clips, folder_clips

    if given.audio:
        return folder_clips(given.audio, given.prompts, given.clips)
    return corpus_clips("slice", 0, given.clips, given.jobs)


def faulty_clips(given: argparse.Namespace, clips: int) -> list[Any]:
    """Clips with known faults, at most ``clips``; none where only real clips of one's own were given."""
    from fluxlight.validity.sources import corpus_faulty, folder_clips

    if given.faulty:
        return folder_clips(given.faulty, given.faulty_prompts, clips)
    return [] if given.audio else corpus_faulty(clips, given.jobs)
