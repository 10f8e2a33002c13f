"""Export: a bundle -> a model folder: model.yaml, weights.safetensors, config.json, a model card and samples.

The folder is a bundle, so stages start from it as from any other; ``info.pipeline`` of its model.yaml says what it
needs to make audio, so `fluxlight generate` runs it. The layout is what the Hugging Face hub expects of a repository.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save

from fluxlight.bundle import RECIPE, WEIGHTS, Which, bundle_hash, load_bundle, read_recipe, save_bundle
from fluxlight.codec import Codec
from fluxlight.encoders import TextAudioModel, TextEncoder
from fluxlight.export.card import Card
from fluxlight.export.facts import read_measured, read_training
from fluxlight.export.samples import FOLDER, write_samples
from fluxlight.files import read_json, write_json, write_text
from fluxlight.generate.pipeline import Pipeline, check_origin, find_bundle, read_pipeline

CARD, CONFIG, LIBRARY = "README.md", "config.json", "fluxlight"


def export(
    bundle: str | Path,
    out: str | Path,
    name: str | None = None,
    weights: Which = "raw",
    pipeline: str | Path | None = None,
    table: str | Path | None = None,
    row: str | None = None,
    data: str | None = None,
    licence: str | None = None,
    trust: Sequence[str] = (),
    half: bool = False,
    samples: int = 3,
) -> Path:
    """Write a model folder.

    Args:
        bundle: a bundle, a run folder with one, or a model folder.
        out: the folder; new, empty, or an earlier export whose card nobody has changed.
        name: of the model in its card; the folder's by default.
        weights: raw or averaged ones.
        pipeline: YAML with any of codec, text, clap, reward, postprocess, sampler, prefix, suffix, where the defaults
            do not fit; classes by class_path.
        table: table.json of ``fluxlight evaluate``, for the card's metrics.
        row: the model's row of the table, where its weights do not tell.
        data: what the model was trained on, in place of what its run says.
        licence: identifier of the weights' licence on the hub, in place of the one that follows from the parts.
        trust: packages beside fluxlight whose classes the bundle may name.
        half: keep the weights in half precision, at half the size; they are computed with in single precision.
        samples: clips beside the card, the first of the slice that its run rendered, if any.

    Returns:
        ``out``.

    Raises:
        FileNotFoundError: no bundle, no table, or a part whose identity nobody wrote down and whose weights are absent.
        ValueError: ``out`` holds something else; the table has no row of these weights; a setting names a file.
    """
    source, out = find_bundle(bundle), Path(out)
    _check_out(out, source)
    recipe = read_recipe(source)
    check_origin(recipe, trust)
    parts = _checked(_pipeline(source, pipeline), trust)
    checkpoint = bundle_hash(source, weights)
    measured = None if table is None else read_measured(table, checkpoint, row)
    model = load_bundle(source, weights)
    if model.head is None:
        parts = replace(parts, sampler=replace(parts.sampler, score=None))
    info = {key: value for key, value in (recipe.get("info") or {}).items() if key != "pipeline"}
    heard = write_samples(source, checkpoint, out, samples)
    if half:
        info["rounded_from"] = checkpoint
        for weight in model.parameters():
            # an extreme one would become infinite: save_bundle refuses it
            weight.data = weight.data.half()
        checkpoint = hashlib.sha256(save({k: v.contiguous() for k, v in model.state_dict().items()})).hexdigest()[:16]
    card = Card(
        name=name or out.resolve().name,
        recipe=recipe,
        info=info,
        weights=weights,
        checkpoint=checkpoint,
        parameters=sum(p.numel() for p in model.parameters()),
        pipeline=parts,
        training=read_training(source),
        measured=measured,
        data=data,
        licence=licence,
        samples=heard,
    )
    # the card first, model.yaml last: a folder that can be loaded is a whole one
    write_text(out / CARD, _sealed(card.text()))
    write_json(out / CONFIG, {
        "library_name": LIBRARY, "model_type": "fluxlight", "format": 1, "model_file": RECIPE,
        "weights_file": WEIGHTS["raw"], "checkpoint": checkpoint,
    })  # fmt: skip
    save_bundle(out, model, {**info, "pipeline": parts.plain(), "weights": weights})
    if (made := bundle_hash(out)) != checkpoint:
        raise ValueError(f"{out} holds weights {made}, {source} has {checkpoint}: the disk changed them, export again")
    return out


def _check_out(out: Path, source: Path) -> None:
    """Refuse a folder with anything in it that no export wrote."""
    if out.resolve() == source.resolve():
        raise ValueError(f"--out {out} is the bundle itself: choose another folder")
    if out.is_file():
        raise ValueError(f"--out {out} is a file: choose a folder")
    if not out.is_dir():
        return
    there, parts = {p.name for p in out.iterdir() if p.name[0] != "."}, {RECIPE, FOLDER, *WEIGHTS.values()}
    if other := sorted(there - parts - {CARD, CONFIG}):
        raise ValueError(f"--out {out} holds {other[0]}, which is no part of a model folder: choose another folder")
    if CARD in there and not _is_sealed(out / CARD):
        raise ValueError(f"--out {out} holds a {CARD} that is not as an export wrote it: move it away, "
                         "or choose another folder")  # fmt: skip
    config = read_json(out / CONFIG) if CONFIG in there else {"library_name": LIBRARY}
    if not isinstance(config, dict) or config.get("library_name") != LIBRARY:
        raise ValueError(f"--out {out} holds the {CONFIG} of something else: choose another folder")
    if CONFIG not in there and (own := sorted(there & parts)):
        raise ValueError(f"--out {out} holds {own[0]}, which no export wrote: choose another folder")


def _sealed(text: str) -> str:
    """A card with a last line by which the next export knows that nobody has changed it."""
    return f"{text}\n<!-- written by fluxlight export, {_digest(text)}: with another text it is yours and is kept -->\n"


def _is_sealed(path: Path) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    found = re.fullmatch(r"(.*)\n<!-- written by fluxlight export, (\w+): [^\n]*-->\n", text, re.DOTALL)
    return found is not None and _digest(found[1]) == found[2]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _pipeline(source: Path, path: str | Path | None) -> Pipeline:
    """The bundle's pipeline with what a YAML says otherwise."""
    if path is None:
        return read_pipeline(source)
    if not Path(path).is_file():
        raise FileNotFoundError(f"--pipeline {path} does not exist: give a YAML with codec, text, clap, ...")
    try:
        given: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"--pipeline {path} is not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(given, dict):
        raise ValueError(f"--pipeline {path} is no list of settings: give codec, text, clap, ... by name")
    return read_pipeline(source, given)


def _checked(pipeline: Pipeline, trust: Sequence[str]) -> Pipeline:
    """The pipeline, its classes found, with an identity for all a model depends on: recorded, or of the part here."""
    for part, base, within in pipeline.parts:
        part.find(base, trust, within)
    found: dict[str, Any] = {}
    for name, base in (("codec", Codec), ("text", TextEncoder), ("clap", TextAudioModel)):
        part = getattr(pipeline, name)
        if not part.identity:
            found[name] = replace(part, identity=part.make(base, trust).identity)
    return replace(pipeline, **found)
