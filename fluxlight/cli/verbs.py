"""The ``fluxlight`` command: a table of verbs. Nothing heavy is imported before a verb has been chosen."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence

from fluxlight.files.printable import printable

TRAINER = "fluxlight.cli.training"
VERBS: dict[str, tuple[str, str]] = {
    "fit": (TRAINER, "train a stage, or a judge, from its YAML"),
    "validate": (TRAINER, "render the prompt slice of a model and measure it"),
    "test": (TRAINER, "run the test loop of a judge"),
    "predict": (TRAINER, "draw candidates for training captions"),
    "corpus": ("fluxlight.cli.corpus", "render the embedded corpus into the cache folder"),
    "encode": ("fluxlight.cli.encode", "turn audio and captions into a latent store, or prompts into a slice"),
    "store": ("fluxlight.cli.store", "join, convert, verify latent stores; append a column of scores"),
    "score": ("fluxlight.cli.score", "score candidates: reward and CLAP"),
    "listen": ("fluxlight.cli.listen", "make a blind page on which listeners compare two systems"),
    "winrate": ("fluxlight.cli.winrate", "listeners' votes to a win rate with interval, alone and with judges"),
    "votes": ("fluxlight.cli.votes", "turn listeners' votes on pairs of clips into inputs of a reward head"),
    "select": ("fluxlight.cli.select", "choose experts or preference pairs among scored candidates"),
    "evaluate": ("fluxlight.cli.evaluate", "measure systems on the slice and write the table"),
    "export": ("fluxlight.cli.export", "turn a bundle into a model folder with a card, ready for the hub"),
    "generate": ("fluxlight.cli.generate", "make audio from prompts with a model folder or a bundle"),
    "postprocess": ("fluxlight.cli.postprocess", "clean and level a folder of clips: Demucs and loudness"),
    "submit": ("fluxlight.cli.submit", "make the challenge's zip, or check one"),
    "ladders": ("fluxlight.cli.ladders", "damage real audio by known steps and see what every measure says"),
    "headroom": ("fluxlight.cli.headroom", "which part of a gap to real clips is codec, generator or judge"),
    "error-rates": ("fluxlight.cli.error_rates", "how often a table raises a false alarm or sees a known damage"),
    "report-card": ("fluxlight.cli.report_card", "what the judges are worth, once, as the file that tables show"),
    "rank": ("fluxlight.cli.rank", "rank systems by the challenge rule: points for every system beaten"),
    "weights": ("fluxlight.cli.weights", "list the published files a config needs, or fetch one"),
    "retrieval": ("fluxlight.cli.retrieval", "measure how well the embedded CLAPs find the right clip"),
    "params": ("fluxlight.cli.params", "count a stage's parameters against the 500 M of the track"),
}

INPUT = (
    ValueError, ImportError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError
)  # fmt: skip
"""Errors that another input mends; so does one of the packages that read configurations. All others are failures."""
READERS = ("omegaconf", "jsonargparse")


def usage() -> str:
    """The table of verbs."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {line}" for verb, (_, line) in VERBS.items())
    return (
        "fluxlight: post-training of small text-to-music flow models\n\n"
        "usage: fluxlight VERB [options]        fluxlight VERB --help lists the options of a verb\n\n"
        f"{verbs}\n\n"
        "first result:  python -m experiments.chain\n"
        "one stage:     fluxlight fit --config configs/stages/score_cond_sft.yaml\n"
        "settings:      FLUXLIGHT_CACHE=folder of the corpus  FLUXLIGHT_WEIGHTS=folder of published files\n"
        "               FLUXLIGHT_THREADS=n  FLUXLIGHT_DEBUG=1 (tracebacks)"
    )


def main(args: Sequence[str] | None = None, standalone: bool = True) -> int:
    """Run one verb.

    Args:
        args: the command line without the program's name; ``sys.argv`` when None.
        standalone: True prints an error as one line and returns its exit code; False raises it, for callers within the
            process. Set FLUXLIGHT_DEBUG=1 for tracebacks.

    Returns:
        The exit code: 0 when all went well, 2 for an input that cannot be used, 1 for what failed (a full disk, no
        network), 130 after Ctrl-C.
    """
    # before torch is loaded: idle threads soon sleep instead of spinning, which costs tenfold when the cores are busy
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    # a file name that is no UTF-8 is printed as what it is, and ends nothing
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if not standalone:
        return _run(args)
    return told(lambda: _run(args), f"fluxlight {args[0]}")


def told(work: Callable[[], int], name: str) -> int:
    """``work`` as a program called ``name``: an error is one line, and 2 or 1 (see `main`); Ctrl-C is 130."""
    try:
        return work()
    except KeyboardInterrupt:
        said = "interrupted; what was finished is kept, the same command goes on from there"
        print(f"\n{name.split()[0]}: {said}", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("FLUXLIGHT_DEBUG"):
            raise
        print(printable(f"{name}: {one_line(error)}"), file=sys.stderr)
        return 2 if _of_input(error) else 1


def _run(args: list[str]) -> int:
    verb, rest = args[0], args[1:]
    if verb not in VERBS:
        raise ValueError(f"unknown verb {verb!r}: choose one of {', '.join(VERBS)}")
    from fluxlight.cli.arguments import plain_warnings

    module = importlib.import_module(VERBS[verb][0])
    if VERBS[verb][0] == TRAINER:
        from fluxlight.weights.fluxaudio import OtherFrequencies

        # short names of callbacks on a command line: the one place where the library looks at them
        callbacks = importlib.import_module("callbacks")
        with plain_warnings(f"fluxlight {verb}", OtherFrequencies):
            return int(module.run([verb, *rest], callbacks.SaveRunConfig) or 0)
    from fluxlight.cli.output import plain
    from fluxlight.clips.found import LeftAside

    try:
        with plain(), plain_warnings(f"fluxlight {verb}", LeftAside):
            return int(module.main(rest) or 0)
    except SystemExit as end:
        # argparse has printed its own line
        return end.code if isinstance(end.code, int) else 2


def _of_input(error: BaseException) -> bool:
    """Whether another input mends it."""
    kinds = [(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__]
    configured = any(home in READERS or name == "MisconfigurationException" for home, name in kinds)
    return isinstance(error, INPUT) or configured


def one_line(error: BaseException) -> str:
    """An exception as one line: our own say what to do, others are named."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror + (f": {error.filename}" if error.filename else "")
    plain = isinstance(error, OSError) or _of_input(error)
    return text if plain else f"{type(error).__name__}: {text} (FLUXLIGHT_DEBUG=1 shows where)"


if __name__ == "__main__":
    sys.exit(main())
