"""Plan: from one declarative file to the works it takes: a delta per cell over a base, content-hashed, shared.

A file of ``experiments/cells`` names stages (what is done) and cells (what is changed). A cell is the stages with its
delta laid over them; each stage of each cell becomes a `Work`, named by the hash of all it is made from, so cells that
share a stage share its work, and a stage that no delta touches is the chain's own and costs nothing.

| do | makes | settings |
|---|---|---|
| fit | bundle and clips | like, from, head, seed, experts, pairs, set |
| render | clips of a model as it is | from, like, head, set |
| predict | scored candidates | like, from, set |
| select | experts or pairs | kind, candidates, per_prompt, and what ``fluxlight select`` takes |
| deliver | clips from rendered latents, post-processed anew | from, steps |
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.cells import source as chains
from experiments.cells.source import CHAIN, OUT, Config, Source
from experiments.chain.numbers import CHOICES
from experiments.chain.steps import Command
from fluxlight.files import hash_of

Stages = dict[str, dict[str, Any]]
SETTINGS = {
    "fit": {"like", "from", "head", "seed", "experts", "pairs", "set"},
    "render": {"from", "like", "head", "set"},
    "predict": {"like", "from", "set"},
    "select": {"kind", "candidates", "per_prompt", *CHOICES},
    "deliver": {"from", "steps"},
}


@dataclass(frozen=True)
class Work:
    """Something to be made once.

    Attributes:
        name: stage and hash; of its marker and its folder ``work/<name>``.
        inputs: what it is made from; its hash decides whether it is there.
        commands: run in order, in the folder of the experiments.
        config: written as ``cell.yaml`` beside what it makes, where the command reads one.
        outputs: glob patterns below the experiments' folder.
        needs: names of works that come first.
    """

    name: str
    inputs: dict[str, Any]
    commands: tuple[Command, ...]
    config: Config | None = None
    outputs: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a stage's results are or will be.

    Attributes:
        folder: run folder of the stage.
        hash: of everything it was made from.
        work: name of the work that makes it; empty when it is the chain's own.
        like: the chain's step whose configuration it has.
        config: the configuration it is run with.
    """

    folder: Path
    hash: str
    work: str = ""
    like: str = ""
    config: Config = field(default_factory=dict)

    @property
    def bundle(self) -> str:
        """Its weights."""
        return str(self.folder / "bundle")


class Planner:
    """Turns cells into works.

    Args:
        source: the chain that all experiments stand on.
        out: folder of the experiments.
        clips: render only the first so many prompts; None: all.
        overrides: dotted keys of every fit, laid under the deltas (shorter trainings, another device).
    """

    def __init__(
        self, source: Source, out: Path, clips: int | None = None, overrides: dict[str, Any] | None = None
    ) -> None:
        self.source, self.out, self.clips, self.overrides = source, out, clips, overrides or {}
        self.works: dict[str, Work] = {}

    def cell(self, stages: Stages, take: str) -> Place:
        """Plan the works of ``stages`` as far as ``take`` needs them; its clips are the cell's."""
        return self._resolve(stages, take, ())

    def _resolve(self, stages: Stages, name: str, path: tuple[str, ...]) -> Place:
        if name in path:
            raise ValueError(f"stages {' -> '.join((*path, name))} go in a circle")
        if name not in stages:
            return Place(self.source.path / name, self.source.result(name), like=name)
        stage = dict(stages[name])
        do = stage.pop("do", "")
        if do not in SETTINGS:
            raise ValueError(f"stage {name}: do is {do!r}, choose one of {', '.join(SETTINGS)}")
        if unknown := sorted(set(stage) - SETTINGS[do]):
            raise ValueError(
                f"stage {name}: unknown {', '.join(unknown)}; {do} takes {', '.join(sorted(SETTINGS[do]))}"
            )
        known = {key: self._resolve(stages, stage[key], (*path, name))
                 for key in ("from", "experts", "pairs", "candidates") if stage.get(key)}  # fmt: skip
        made: Place = getattr(self, f"_{do}")(name, stage, known)
        return made

    # -- what a stage can do -------------------------------------------------------------------------------------

    def _fit(self, name: str, stage: dict[str, Any], known: dict[str, Place]) -> Place:
        like = stage["like"]
        original = self.source.config(like)
        config = self._changed(original, stage, known)
        if not self.overrides and config == original:
            return Place(self.source.path / like, self.source.result(like), like=like, config=config)
        for key, value in self.overrides.items():
            chains.put(config, key, value)
        for key, value in stage.get("set", {}).items():
            chains.put(config, key, value)
        config["ckpt_path"] = "last"
        # a first half (the mixture) renders nothing, as in the chain
        clips = () if config["trainer"]["limit_val_batches"] == 0 else ("slice/**/*",)
        return self._run(name, "fit", like, config, known, ("bundle/*", *clips))

    def _render(self, name: str, stage: dict[str, Any], known: dict[str, Place]) -> Place:
        start = known["from"]
        like = stage.get("like") or start.like
        original = self.source.config(like) if stage.get("like") or not start.config else copy.deepcopy(start.config)
        original.pop("ckpt_path", None)
        chains.put(original, "model.init_from", start.bundle)
        config = self._changed(original, stage, {})
        if not start.work and like == start.like and config == original:
            return start
        return self._run(name, "validate", like, config, known, ("bundle/*", "slice/**/*"))

    def _predict(self, name: str, stage: dict[str, Any], known: dict[str, Place]) -> Place:
        config = self._changed(self.source.config(stage["like"]), stage, known)
        folder = ("candidates.jsonl", "scores.jsonl", "latents/*")
        return self._run(name, "predict", stage["like"], config, known, folder)

    def _select(self, name: str, stage: dict[str, Any], known: dict[str, Place]) -> Place:
        kind, candidates = stage["kind"], known["candidates"]
        delta = {key: value for key, value in stage.items() if key not in ("kind", "candidates")}
        if not candidates.work and not delta:
            return candidates
        # null takes a limit of the chain's away
        delta = self.source.given(kind, CHOICES, 2) | delta
        delta = {key: value for key, value in delta.items() if value is not None}
        kept = delta.pop("per_prompt", None)
        words = [kind, "--slice", self.source.place["slice"]]
        words += [word for key, value in delta.items() for word in (f"--{key}", str(value))]
        inputs = {"do": "select", "kind": kind, **delta, "kept": kept, "candidates": candidates.hash}
        work = self._name(name, inputs)
        folder = self.out / "work" / work
        start = ["--candidates", str(candidates.folder), "--out", str(folder)]
        start += ["--per_prompt", str(kept)] if kept else []
        command = Command("experiments.choose", (*start, "--", *words))
        self._add(Work(work, inputs, (command,), None, (f"work/{work}/{kind}.jsonl",), self._needs(known)))
        return Place(folder, hash_of(inputs), work, candidates.like)

    def _deliver(self, name: str, stage: dict[str, Any], known: dict[str, Place]) -> Place:
        inputs = {"do": "deliver", "steps": stage["steps"], "from": known["from"].hash, "clips": self.clips}
        work = self._name(name, inputs)
        folder = self.out / "work" / work
        words = ["--rendered", str(known["from"].folder / "slice"), "--out", str(folder / "slice")]
        words += [word for step in stage["steps"] for word in ("--step", step)]
        words += ["--clips", str(self.clips)] if self.clips else []
        command = Command("experiments.deliver", tuple(words))
        self._add(Work(work, inputs, (command,), None, (f"work/{work}/slice/**/*",), self._needs(known)))
        return Place(folder, hash_of(inputs), work, known["from"].like)

    # -- shared --------------------------------------------------------------------------------------------------

    def _changed(self, original: Config, stage: dict[str, Any], known: dict[str, Place]) -> Config:
        """``original`` with a stage's settings."""
        config = copy.deepcopy(original)
        if stage.get("head"):
            chains.head(config, stage["head"])
        if "seed" in stage:
            chains.seed(config, int(stage["seed"]))
        if "from" in known:
            chains.put(config, "model.init_from", known["from"].bundle)
        for kind in ("experts", "pairs"):
            if kind in known:
                chains.put(config, f"data.{kind}", str(known[kind].folder / f"{kind}.jsonl"))
        for key, value in stage.get("set", {}).items():
            chains.put(config, key, value)
        return config

    def _run(
        self, name: str, verb: str, like: str, config: Config, known: dict[str, Place], made: tuple[str, ...]
    ) -> Place:
        """A work that runs a configuration."""
        if self.clips:
            chains.put(config, "data.slice_clips", self.clips)
        chains.move(config, OUT)
        folders = {str(self.out): OUT, str(self.source.path): CHAIN}
        plain: Any = config
        for path, stands in folders.items():
            plain = chains.replaced(plain, path, stands)
        inputs = {"do": verb, "config": plain, "needs": {key: place.hash for key, place in known.items()},
                  "chain": self._roots(plain)}  # fmt: skip
        work = self._name(name, inputs)
        folder = self.out / "work" / work
        config = copy.deepcopy(config)
        chains.move(config, str(folder))
        commands = [Command("fluxlight", (verb, "--config", str(folder / "cell.yaml")))]
        if verb == "predict":
            commands.append(Command("fluxlight", ("score", "--candidates", str(folder))))
        outputs = tuple(f"work/{work}/{pattern}" for pattern in made)
        self._add(Work(work, inputs, tuple(commands), config, outputs, self._needs(known)))
        kept = {key: value for key, value in config.items() if key != "ckpt_path"}
        return Place(folder, hash_of(inputs), work, like, kept)

    def _roots(self, value: Any) -> dict[str, str]:
        """The chain's steps whose files a configuration names -> what those steps made."""
        if isinstance(value, dict | list):
            items = value.values() if isinstance(value, dict) else value
            return {key: made for item in items for key, made in self._roots(item).items()}
        if not isinstance(value, str) or not value.startswith(f"{CHAIN}/"):
            return {}
        step = value.split("/")[1].split(".")[0]
        step = "stores" if step in ("store", "slice", "reference") else step
        return {step: self.source.result(step)}

    def _name(self, stage: str, inputs: dict[str, Any]) -> str:
        return f"{stage.replace(' ', '-')}-{hash_of(inputs)[:10]}"

    def _needs(self, known: dict[str, Place]) -> tuple[str, ...]:
        return tuple(place.work for place in known.values() if place.work)

    def _add(self, work: Work) -> None:
        self.works.setdefault(work.name, work)
