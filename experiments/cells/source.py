"""Source: a finished chain as what experiments stand on: the configuration of each of its stages, its data, its rows.

A stage is taken from the configuration that its own run left in the run folder, so an experiment differs from the chain
in what it names and in nothing else, whatever the shipped recipes have become since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.chain.numbers import ROOT
from experiments.chain.run_folder import RunFolder
from fluxlight.files import hash_of, read_json

Config = dict[str, Any]
CHAIN, OUT = "<chain>", "<out>"
"""Stand for the two folders in everything that is hashed, so that both may be moved."""


@dataclass(frozen=True)
class Source:
    """A chain's run folder.

    Attributes:
        path: the folder.
    """

    path: Path

    def __post_init__(self) -> None:
        if not (self.path / "steps").is_dir():
            raise FileNotFoundError(
                f"--from {self.path} is no run folder of the chain (no steps in it): make one with "
                "`python -m experiments.chain --scale debug --out DIR`"
            )

    def marker(self, step: str) -> dict[str, Any]:
        """The marker of a finished step of the chain."""
        marker = RunFolder(self.path).read(step)
        if marker.get("state") != "done":
            raise FileNotFoundError(
                f"step {step} of {self.path} is not done: finish the chain first, the same command goes on with it"
            )
        return marker

    def result(self, step: str) -> str:
        """One hash for what a step of the chain made."""
        self.marker(step)
        return RunFolder(self.path).result(step)

    def words(self, step: str, command: int = 0) -> list[str]:
        """A command line of a step, with the chain's folder put in."""
        return [word.replace(OUT, str(self.path)) for word in self.marker(step)["inputs"]["commands"][command]]

    def option(self, step: str, name: str, command: int = 0) -> str:
        """The value of ``--name`` in a command line of a step; the last one wins, as it does when it is run."""
        words = self.words(step, command)
        places = [k for k, word in enumerate(words) if word == f"--{name}"]
        if not places:
            raise ValueError(
                f"step {step} of {self.path} was not given --{name}: this chain cannot carry the experiment"
            )
        return words[places[-1] + 1]

    def given(self, step: str, names: Sequence[str], command: int = 0) -> dict[str, str]:
        """The values of those of ``names`` that a command line of a step was given."""
        words = self.words(step, command)
        return {name: self.option(step, name, command) for name in names if f"--{name}" in words}

    @property
    def place(self) -> dict[str, str]:
        """Where ``store``, ``slice`` and ``reference`` are."""
        return {name: self.option("row1", f"data.{name}") for name in ("store", "slice", "reference")}

    @property
    def data_hash(self) -> str:
        """One hash for the data: corpus checksum, encoders, reference."""
        return self.result("stores")

    def config(self, step: str) -> Config:
        """The configuration a stage was run with, with this folder's paths and the keys that all verbs share."""
        self.marker(step)
        folder = self.path / step
        names = ("config.yaml", "config-validate.yaml", "config-predict.yaml")
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is None:
            raise FileNotFoundError(f"{folder} holds no config.yaml: run the chain again")
        found = read_config(path)
        was = Path(found["trainer"]["default_root_dir"])
        # the folder may have been moved since: the run's own folder was <was>/<step>
        old = str(was)[: -len(step) - 1] if str(was).endswith(f"/{step}") else str(was)
        config = replaced(found, old, str(self.path))
        for name in ("store", "slice", "reference"):
            put(config, f"data.{name}", self.place[name])
        for key in ("ckpt_path", "verbose", "weights_only", "return_predictions"):
            config.pop(key, None)
        return config

    def _seconds(self) -> list[float]:
        markers = [read_json(path) for path in sorted((self.path / "steps").rglob("*.json"))]
        return [float(marker.get("seconds", 0.0)) for marker in markers]

    def facts(self) -> dict[str, Any]:
        """What a report says about the chain."""
        provenance = self.path / "provenance.json"
        corpus = self.path / "corpus.json"
        return {
            "chain": self.path.name,
            "seed": int(self.option("row1", "seed_everything")),
            "updates": {step: int(self.config(step)["trainer"]["max_steps"]) for step in ("row1", "row4")},
            "data": self.data_hash,
            "minutes": round(sum(self._seconds()) / 60, 1),
            "corpus": read_json(corpus).get("checksum", "") if corpus.is_file() else "",
            "chain_revision": read_json(provenance).get("revision", "") if provenance.is_file() else "",
        }


def read_config(path: Path) -> Config:
    """A YAML file that holds a mapping."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no configuration: a YAML mapping is expected")
    return found


def replaced(value: Any, old: str, new: str) -> Any:
    """``value`` with ``old`` replaced by ``new`` in every text that starts with it."""
    if isinstance(value, dict):
        return {key: replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, old, new) for item in value]
    inside = isinstance(value, str) and (value == old or value.startswith(f"{old}/"))
    return new + value[len(old) :] if inside else value


def put(config: Config, key: str, value: Any) -> None:
    """Set a dotted key as a command line names it: ``init_args`` are passed through; an unknown key is an error."""
    *parents, last = key.split(".")
    node: Any = config
    for part in parents:
        node = _inner(node, part)
        if not isinstance(node, dict) or part not in node:
            raise ValueError(f"key {key}: there is no {part} in the configuration")
        node = node[part]
    node = _inner(node, last)
    if not isinstance(node, dict) or last not in node:
        raise ValueError(f"key {key}: there is no {last} in the configuration")
    node[last] = value


def _inner(node: Any, part: str) -> Any:
    inside = isinstance(node, dict) and part not in node and isinstance(node.get("init_args"), dict)
    return node["init_args"] if inside else node


def seed(config: Config, value: int | str) -> None:
    """Seed of initialisation, of the order of rows and of all training draws, as the recipes tie them together."""
    config["seed_everything"] = value
    for key in ("model.seed", "data.seed"):
        put(config, key, value)


def head(config: Config, name: str) -> None:
    """Put a head file of ``configs/heads`` in."""
    path = ROOT / "configs" / "heads" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise ValueError(f"head {name!r}: choose one of {known}")
    put(config, "model.head", read_config(path)["model"]["init_args"]["head"])


def put_half(config: Config, half: str | None) -> None:
    """Have the callbacks measure one half of the slice alone, or all of it for None."""
    for callback in config["trainer"].get("callbacks") or []:
        if callback["class_path"].rsplit(".", 1)[-1] == "RenderSlice":
            callback.setdefault("init_args", {})["half"] = half


def half_in(config: Config) -> str | None:
    """The half of the slice that a configuration measures; None for all."""
    callbacks = config["trainer"].get("callbacks") or []
    found = (c["init_args"].get("half") for c in callbacks if c["class_path"].rsplit(".", 1)[-1] == "RenderSlice")
    return next(found, None)


def move(config: Config, folder: str) -> None:
    """Give the run a folder of its own, its log included."""
    put(config, "trainer.default_root_dir", folder)
    if isinstance(config["trainer"].get("logger"), dict):
        put(config, "trainer.logger.save_dir", folder)


def named(value: Any, folders: dict[str, str]) -> str:
    """Hash of ``value`` with folders under the names that stand for them (``{path: name}``)."""
    for path, name in folders.items():
        value = replaced(value, path, name)
    return hash_of(value)
