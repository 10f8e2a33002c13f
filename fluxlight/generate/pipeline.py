"""Pipeline: what a model needs beside its weights to make audio, as written into a model folder or found for a bundle.

A model folder is a bundle whose model.yaml has ``info.pipeline``. A bare bundle has none: its parts follow from the
sizes of its texts, which differ between the embedded and the published world, and its sampler from what its run
rendered.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from fluxlight.bundle import RECIPE, read_recipe
from fluxlight.clips.candidates import read_candidates
from fluxlight.codec import Codec
from fluxlight.encoders import TextAudioModel, TextEncoder
from fluxlight.generate.parts import Part, refuse_strangers
from fluxlight.guidance import Guidance
from fluxlight.rewards import Reward
from fluxlight.sample import Sampler
from fluxlight.worlds import names as world_names
from fluxlight.worlds import read_world


class Notice(UserWarning):
    """Something a user should read once; the command line prints it as one line."""


@dataclass(frozen=True)
class Pipeline:
    """Parts and settings between a prompt and its clip.

    Attributes:
        codec: latents -> audio.
        text: text -> tokens.
        clap: text -> global embedding.
        reward: the reward that drives: the default of best-of-N.
        postprocess: what is done to a decoded clip, in order.
        sampler: settings of sampling.
        prefix, suffix: put around every prompt that is not empty.
    """

    codec: Part
    text: Part
    clap: Part
    reward: Part | None = None
    postprocess: tuple[Part, ...] = ()
    sampler: Sampler = Sampler()  # noqa: RUF009 (frozen)
    prefix: str = ""
    suffix: str = ""

    @property
    def parts(self) -> list[tuple[Part, type[Any], str]]:
        """Every part with what it must be and the module of fluxlight it must come from."""
        named = [(self.codec, Codec), (self.text, TextEncoder), (self.clap, TextAudioModel), (self.reward, Reward)]
        found: list[tuple[Part, type[Any], str]] = [(p, base, "fluxlight") for p, base in named if p is not None]
        return found + [(step, object, "fluxlight.postprocess") for step in self.postprocess]

    @classmethod
    def read(cls, value: Any, where: str, base: Pipeline | None = None) -> Pipeline:
        """A pipeline from plain values, what is absent from ``base``.

        Raises:
            ValueError: unknown or missing keys, settings that do not fit, a setting that points at a file.
        """
        cls.check_names(value, where)
        given: dict[str, Any] = {}
        for name in ("codec", "text", "clap", "reward"):
            if value.get(name) is not None:
                given[name] = Part.read(value[name], f"{where}: {name}")
        if "postprocess" in value:
            steps = value["postprocess"] or []
            given["postprocess"] = tuple(Part.read(step, f"{where}: postprocess") for step in steps)
        if "sampler" in value:
            given["sampler"] = read_sampler(value["sampler"], where, base.sampler if base else Sampler())
        given |= {name: str(value[name] or "") for name in ("prefix", "suffix") if name in value}
        if base is not None:
            return replace(base, **given)
        if missing := sorted({"codec", "text", "clap"} - set(given)):
            raise ValueError(f"{where} lacks {', '.join(missing)}: export the model again")
        return cls(**given)

    @classmethod
    def check_names(cls, value: Any, where: str) -> None:
        """Refuse what is no mapping of settings of a pipeline."""
        known = {f.name for f in fields(cls)}
        if not isinstance(value, Mapping) or set(value) - known:
            odd = sorted(map(str, set(value) - known)) if isinstance(value, Mapping) else [type(value).__name__]
            raise ValueError(f"{where} has unknown {', '.join(odd)}: known are {', '.join(sorted(known))}")

    def plain(self) -> dict[str, Any]:
        """The pipeline as plain values, for YAML."""
        named = {"codec": self.codec, "text": self.text, "clap": self.clap, "reward": self.reward}
        return {
            **{name: part.plain() for name, part in named.items() if part is not None},
            "postprocess": [step.plain() for step in self.postprocess],
            "sampler": plain_sampler(self.sampler),
            "prefix": self.prefix,
            "suffix": self.suffix,
        }


def world_of(sizes: tuple[Any, ...]) -> Pipeline | None:
    """The pipeline of the world whose ``sizes`` (of a text token, the global text, a latent) these are; else None."""
    for name in world_names():
        world = read_world(name)
        if tuple(world["sizes"]) == sizes:
            return Pipeline.read(world["pipeline"], f"world {name}")
    return None


def find_bundle(folder: str | Path) -> Path:
    """The bundle at ``folder``: a model folder, a bundle, or a run folder with one in it."""
    folder = Path(folder)
    for place in (folder, folder / "bundle"):
        if (place / RECIPE).is_file():
            return place
    state = "holds no model.yaml and no bundle/model.yaml" if folder.is_dir() else "does not exist"
    state = "is a file" if folder.is_file() else state
    raise FileNotFoundError(
        f"model folder {folder} {state}: give what `fluxlight export` or the end of `fluxlight fit` wrote"
    )


def read_pipeline(folder: str | Path, given: Mapping[str, Any] | None = None) -> Pipeline:
    """The pipeline of a model folder, or the one that fits a bare bundle.

    Args:
        folder: see `find_bundle`.
        given: plain values that win over what is found.
    """
    folder = find_bundle(folder)
    recipe = read_recipe(folder)
    info = recipe.get("info") or {}
    given = given or {}
    Pipeline.check_names(given, "pipeline")
    known: Mapping[str, Any] = {}
    if "pipeline" in info:
        base = Pipeline.read(info["pipeline"], f"{folder / RECIPE}: info.pipeline")
    else:
        base, known = _for_bundle(folder, recipe, given), info.get("identities") or {}
    found = Pipeline.read(given, "pipeline", base)
    parts = {name: getattr(found, name) for name in ("codec", "text", "clap")}
    return replace(found, **{
        name: replace(part, identity=part.identity or str(known.get(name, ""))) for name, part in parts.items()
    })  # fmt: skip


def _for_bundle(folder: Path, recipe: Mapping[str, Any], given: Mapping[str, Any]) -> Pipeline:
    """The pipeline of the world that a bare bundle's texts belong to, or one of the given parts."""
    sizes = recipe["backbone"].get("init_args") or {}
    names = ("text_dim", "text_c_dim", "latent_dim")
    found = tuple(sizes.get(name) for name in names)
    if lacking := [name for name, size in zip(names, found, strict=True) if size is None]:
        raise ValueError(f"{folder / RECIPE} says no {', '.join(lacking)} of its backbone: write the bundle again")
    world = world_of(found)
    if world is None and {"codec", "text", "clap"} <= set(given):
        world = Pipeline.read({name: given[name] for name in ("codec", "text", "clap")}, "pipeline")
    if world is None:
        raise ValueError(
            f"bundle {folder} has texts of {found[0]} and {found[1]} features and latents of {found[2]}, which belong "
            "to no encoders and codec known here: name them in a YAML and use `fluxlight export --pipeline`"
        )
    return replace(world, sampler=rendered_sampler(folder, recipe))


def check_origin(recipe: Mapping[str, Any], trust: Sequence[str]) -> None:
    """Refuse a recipe whose backbone or head is neither fluxlight's nor of a trusted package."""
    for name in ("backbone", "head"):
        if recipe.get(name) is not None:
            if not isinstance(recipe[name], Mapping):
                raise ValueError(f"{name} of {RECIPE} is {recipe[name]!r}: a class_path is expected; export it again")
            refuse_strangers(str(recipe[name].get("class_path")), trust)


def rendered_sampler(folder: Path, recipe: Mapping[str, Any]) -> Sampler:
    """The sampler that the run of a bare bundle rendered its slice with; the published one where there is none."""
    made = set(recipe["hash"].values())
    for row in read_candidates(folder.parent / "slice", missing_ok=True):
        if row.checkpoint in made and not row.error and isinstance(row.extra.get("sampler"), dict):
            return read_sampler(row.extra["sampler"], f"{folder.parent / 'slice'}", Sampler())
    default = Sampler()
    warnings.warn(
        Notice(
            f"nothing beside bundle {folder} says how it was rendered: the published settings are used "
            f"({default.steps} steps, guidance {default.cfg_weight:g}, score {default.score:g})"
        ),
        stacklevel=2,
    )
    return default


def plain_sampler(sampler: Sampler) -> dict[str, Any]:
    """Settings of a sampler as plain values; what is not set is left out, but for the score, whose null means none."""
    return {name: value for name, value in sampler.plain().items() if value is not None or name == "score"}


def read_sampler(value: Any, where: str, base: Sampler) -> Sampler:
    """A sampler from plain values, what is absent from ``base``."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: sampler is {value!r}: give its settings by name")
    if value.get("second") is not None:
        # it names a bundle elsewhere on the disk, whose classes would be imported
        raise ValueError(
            f"{where}: sampler.second names another checkpoint, which is not part of this one: set it null"
        )
    for name in ("steps", "cfg_weight", "score", "score_weight", "negative_score"):
        if not isinstance(value.get(name), int | float | None) or isinstance(value.get(name), bool):
            raise ValueError(f"{where}: sampler.{name} is {value[name]!r}: give a number")
    given = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}
    settings: dict[str, Any] = {name: item for name, item in given.items() if name != "second"}
    if settings.get("guidance") is not None:
        part = Part.read(settings["guidance"], f"{where}: sampler.guidance")
        settings["guidance"] = part.make(Guidance, within="fluxlight.guidance")
    if "." in str(settings.get("method", "")):
        raise ValueError(f"{where}: sampler.method is {settings['method']!r}: a model folder may name euler or heun")
    try:
        return replace(base, **settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: sampler does not fit ({error})") from None
