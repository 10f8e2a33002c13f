"""``fluxlight generate``: prompts to audio files with a model folder or a bundle; a second call resumes."""

from __future__ import annotations

import argparse
import math
import os
import warnings
from pathlib import Path
from typing import Any

from fluxlight.cli.arguments import Arguments, within
from fluxlight.progress import note


def _score(text: str) -> float | None:
    """A finite number, or ``none`` for the null score."""
    return None if text.lower() in ("none", "null") else _finite(text)


_finite, _positive = within(-math.inf, kind=float), within(1)


def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    p = Arguments(
        prog="fluxlight generate",
        description="Generate music: one audio file a prompt, and manifest.jsonl with how each was made.",
        epilog='Example: fluxlight generate "a calm piano piece" --model models/row4 --out clips',
        argument_default=argparse.SUPPRESS,
    )
    add = p.add_argument
    add("prompts", nargs="*", default=[], metavar="PROMPT", help="what to play; files are named by its words")
    add("--model", default=None,
        help="model folder, bundle, run folder, published FluxAudio file, or hf://user/name of the hub "
             "(the small one that is shipped)")  # fmt: skip
    add("--prompts", dest="file", default=None, metavar="FILE",
        help="TSV, CSV, JSON or JSONL with id and prompt, a text (one a line), a store, or - for stdin")  # fmt: skip
    add("--out", default="generated", help="folder of the audio files (generated)")
    add("--format", choices=("wav", "flac"), default="wav", help="of the files, 16 bit (wav)")
    add("--seed", type=within(0), default=42, help="noise seed of the first prompt; prompt i has this plus i (42)")
    add("--batch", type=_positive, default=8, help="clips at a time (8): speed and memory, not the result")
    add("--score", type=_score, help="score to ask for, or none (default: the model folder's)")
    add("--cfg", type=_finite, dest="cfg_weight", help="guidance weight (default: the model folder's)")
    add("--steps", type=_positive, help="solver steps (default: the model folder's)")
    add("--method", help="solver: euler, heun, or the import path of one (default: the model folder's)")
    add("--best-of", type=_positive, default=1, metavar="N", help="draw N clips a prompt, keep the best by reward (1)")
    add("--reward", default=None, help="class of the reward: RewardA, or a class path (default: the model folder's)")
    add("--prefix", help="put before every prompt (default: the model folder's)")
    add("--suffix", help="put behind every prompt (default: the model folder's)")
    add("--negative", metavar="TEXT", help='text to lead away from, "" for the empty one (default: the stored one)')
    add("--score-weight", type=_finite, help="a guidance weight of its own for the score (default: one for both)")
    add("--negative-score", type=_score, help="score to lead away from, or none (default: the model folder's)")
    add("--guidance", metavar="KIND",
        help="Joint, Separate, Rescaled, APG, CFGZeroStar, or a class path (default: the model folder's)")  # fmt: skip
    add(
        "--guidance-set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of --guidance: strength=0.7",
    )
    add("--schedule", choices=("constant", "anneal", "interval"), help="of the guidance over time (the model folder's)")
    add("--interval", type=_finite, nargs=2, metavar=("LOW", "HIGH"), help="times of --schedule interval; 1 is noise")
    add("--second", dest="bundle", metavar="BUNDLE", help="another checkpoint over the same latents that takes part")
    add("--combine", choices=("crossover", "reverse", "average"), help="the second from --at on, until it, or averaged")
    add("--at", type=_finite, metavar="TIME", help="of the change between both checkpoints (0.5)")
    add("--share", type=_finite, dest="weight", help="of the model itself in an average (0.5)")
    add("--raw", action="store_true", default=False, help="no post-processing: neither Demucs nor loudness")
    add("--weights", choices=("raw", "ema"), default="raw", help="raw or averaged weights of a bundle (raw)")
    add("--head", metavar="NAME", help="score head to fill from a published file: GlobalAdaLN, InputAdd, ...")
    add("--head-prefix", metavar="PREFIX", help="what stands before that head's names in the file")
    add("--skip", action="append", default=[], metavar="PREFIX",
        help="names of a published file to leave out: those of a score head")  # fmt: skip
    add("--device", default="auto", help="cpu, cuda, mps, or auto (auto: cuda if there is one)")
    add("--trust", action="append", default=[], metavar="PACKAGE",
        help="package beside fluxlight whose classes the model folder may name; runs its code")  # fmt: skip
    return p


def main(args: list[str]) -> int:
    """Run the verb; 1 when some clip could not be made."""
    given = vars(parser().parse_args(args))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _run(given)


def _run(given: dict[str, Any]) -> int:
    import torch

    from fluxlight.device import chosen
    from fluxlight.files import claimed, longest_name
    from fluxlight.generate.pipeline import Notice
    from fluxlight.generate.prompts import from_file, from_texts
    from fluxlight.generate.render import file_names, render
    from fluxlight.prompts import PromptsCut
    from fluxlight.weights.fluxaudio import OtherFrequencies

    for kind in (Notice, PromptsCut, OtherFrequencies):
        warnings.simplefilter("always", kind)
    warnings.showwarning = lambda message, *_, **__: say(str(message))
    if bool(given["prompts"]) == (given["file"] is not None):
        raise ValueError('give prompts, either as arguments ("a calm piano piece") or with --prompts FILE')
    prompts = from_file(given["file"]) if given["file"] is not None else from_texts(given["prompts"])
    # before anything is loaded
    if Path(given["out"]).is_file():
        raise ValueError(f"--out {given['out']} is a file: choose a folder")
    file_names(prompts, given["format"], longest_name(given["out"]))
    if threads := os.environ.get("FLUXLIGHT_THREADS"):
        torch.set_num_threads(int(threads))
    device = chosen(given["device"])
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device} cannot be used ({str(error).splitlines()[0]}): try cpu") from None
    generator = find_generator(given, device)
    generator.set_sampler(**find_sampler(given))
    generator.prefix = given.get("prefix", generator.prefix)
    generator.suffix = given.get("suffix", generator.suffix)
    if "negative" in given:
        generator.set_negative(given["negative"])
    if given["raw"]:
        generator.postprocess = []
    reward = find_reward(given["reward"]) if given["reward"] else None
    with claimed(given["out"], ("",), make=True):
        rows = render(
            generator, prompts, given["out"], given["seed"], given["batch"], given["best_of"], reward, given["format"],
            progress=True,
        )  # fmt: skip
    failed = [row for row in rows if row["error"]]
    for row in failed:
        say(f"{row['id']}: {row['error']}")
    fine = len(rows) - len(failed)
    what = f"{given['out']}/{rows[0]['file']}" if len(rows) == 1 and fine else given["out"]
    print(f"{fine} clip{'s' * (fine != 1)} -> {what}")
    return 1 if failed else 0


def find_generator(given: dict[str, Any], device: str) -> Any:
    """The generator of ``--model``: a folder, one of the hub, or a published file with what is said of its head."""
    from fluxlight.generate.generator import Generator

    model = given["model"]
    if model is None:
        from fluxlight.generate.pipeline import Notice
        from fluxlight.generate.shipped import unpacked

        warnings.warn(
            "no --model: this is the small model that comes with fluxlight, which plays folk tunes and knows no score; "
            "a better one is made by `python -m experiments.chain`", Notice, stacklevel=2,
        )  # fmt: skip
        model = str(unpacked())
    of_file = {name: given[name] for name in ("head", "head_prefix", "skip") if given.get(name)}
    if Path(model).is_file():
        from fluxlight.generate.published import from_published

        return from_published(model, **of_file, weights=given["weights"], device=device)
    if of_file:
        flag = next(iter(of_file)).replace("_", "-")
        raise ValueError(f"--{flag} is about a published file, and --model {model} is none: leave it out")
    where = {"weights": given["weights"], "device": device, "trust": given["trust"]}
    hub = model.startswith("hf://")
    return Generator.from_pretrained(model, **where) if hub else Generator.from_folder(model, **where)


def find_sampler(given: dict[str, Any]) -> dict[str, Any]:
    """Settings of the sampler among the arguments, with the second checkpoint if one is named."""
    from fluxlight.bundle import read_recipe
    from fluxlight.generate.pipeline import check_origin
    from fluxlight.guidance.second import Second

    names = ("score", "cfg_weight", "steps", "method", "score_weight", "negative_score", "schedule")
    changes = {name: given[name] for name in names if name in given}
    if "interval" in given:
        changes["interval"] = tuple(given["interval"])
    if "guidance" in given:
        changes["guidance"] = find_guidance(given["guidance"], given["guidance_set"])
    elif given["guidance_set"]:
        raise ValueError("--guidance-set is a setting of a kind of guidance: name it with --guidance")
    second = {name: given[name] for name in ("bundle", "combine", "at", "weight") if name in given}
    if second and "bundle" not in second:
        raise ValueError("--combine, --at and --share are about a second checkpoint: name it with --second")
    if second:
        # before its classes are imported
        check_origin(read_recipe(second["bundle"]), given["trust"])
        changes["second"] = Second(**second)
    return changes


def find_guidance(name: str, settings: list[str]) -> Any:
    """A kind of guidance by its name in `fluxlight.guidance` or its class path, with settings as ``name=value``."""
    from fluxlight import guidance
    from fluxlight.files import parse_yaml
    from fluxlight.recorded import find_class, names_of

    kind = find_class(name) if "." in name else getattr(guidance, name, None)
    if not (isinstance(kind, type) and issubclass(kind, guidance.Guidance)):
        known = ", ".join(names_of(guidance, (guidance.Guidance,)))
        raise ValueError(f"--guidance {name} is no kind of guidance: use {known}, or a class path")
    if odd := next((item for item in settings if "=" not in item), None):
        raise ValueError(f"--guidance-set {odd} has no value: give NAME=VALUE, for instance strength=0.7")
    parts = [item.partition("=") for item in settings]
    values = {name.strip(): parse_yaml(value, ".", f"--guidance-set {name}") for name, _, value in parts}
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"--guidance-set does not fit {name} ({error}): correct it") from None


def find_reward(name: str) -> Any:
    """A reward by class path, or by the name of one in `fluxlight.rewards`."""
    from fluxlight.recorded import find_class
    from fluxlight.rewards import Reward

    made = find_class(name if "." in name else f"fluxlight.rewards.{name}")
    if not issubclass(made, Reward):
        raise ValueError(f"{name} is no Reward: name one, for instance RewardA")
    return made()


def say(line: str) -> None:
    """One line on standard error, above a progress bar."""
    note(f"fluxlight generate: {line}")
