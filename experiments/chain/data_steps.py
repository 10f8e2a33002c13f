"""The data of a chain as steps: the embedded corpus, its store and reference, or stores of the user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.chain.numbers import FIRST, shipped_weights
from experiments.chain.steps import Command, Step


@dataclass(frozen=True)
class Data:
    """Builds the steps before the first training.

    Attributes:
        out: run folder.
        numbers: the chain file of the scale (``configs/chain``).
        jobs: processes that render and listen.
    """

    out: Path
    numbers: dict[str, Any]
    jobs: int = 2

    def place(self, name: str) -> str:
        """Where ``store``, ``slice`` or ``reference`` is: made by the chain, or named in the chain file."""
        made = {"store": "store", "slice": "slice", "reference": "reference.safetensors"}
        return self.at(made[name]) if self.numbers["corpus"] else str(Path(self.numbers["stores"][name]).resolve())

    def at(self, *parts: str) -> str:
        """A path below the run folder."""
        return str(self.out.joinpath(*parts))

    def steps(self) -> list[Step]:
        """All of them, in their order."""
        return [self.first(), self.corpus(), self.stores()] if self.numbers["corpus"] else [self.given()]

    def first(self) -> Step:
        """Something to hear before the corpus is rendered: it needs its own few clips only."""
        clips = min(FIRST, self.numbers["corpus"]["slice"])
        command = Command("experiments.first_sounds", ("--clips", str(clips), "--out", self.at("first")))
        outputs = ("first/*/*.wav", "first/prompts.json")
        return Step("first", "the first sounds: real clips and their round trip", (command,), outputs)

    def corpus(self) -> Step:
        """Render the corpus into the cache folder and note what it holds."""
        rendered = {split: str(n) for split, n in self.numbers["corpus"].items() if n != "shipped"}
        sizes = [word for split, n in rendered.items() for word in (f"--{split}", n)]
        command = Command("fluxlight", ("corpus", *sizes, "--jobs", str(self.jobs), "--out", self.at("corpus.json")))
        return Step("corpus", "render the captioned corpus", (command,), ("corpus.json",), folders=())

    def stores(self) -> Step:
        """Encode training set and slice; freeze the reference under the judge, or take the shipped one."""
        sizes = self.numbers["corpus"]
        train = ("encode", "--split", "train", "--clips", str(sizes["train"]), "--out", self.at("store"))
        prompts = ("encode", "--split", "slice", "--clips", str(sizes["slice"]), "--text_only", "true")
        frozen: tuple[str, ...] = ("--clips", str(sizes["reference"]), "--jobs", str(self.jobs))
        if sizes["reference"] == "shipped":
            frozen = ("--shipped",)
        commands = (
            Command("fluxlight", train),
            Command("fluxlight", (*prompts, "--out", self.at("slice"))),
            Command("experiments.reference", (*frozen, "--out", self.at("reference.safetensors"))),
        )
        outputs = ("store/*", "slice/*", "reference.safetensors")
        title, own = "latents, texts, rewards; reference", ("store", "slice")
        return Step("stores", title, commands, outputs, ("corpus",), own, shipped_weights())

    def given(self) -> Step:
        """Stores the user has encoded, at a scale that does not stand on the embedded corpus."""
        named = {name: Path(self.place(name)) for name in ("store", "slice", "reference")}
        files = {name: path if name == "reference" else path / "meta.json" for name, path in named.items()}
        if absent := [str(path) for name, path in named.items() if not files[name].is_file()]:
            raise ValueError(
                f"this scale stands on stores of your own and {', '.join(absent)} is not there: make stores with "
                "`fluxlight encode` and the reference with `fluxlight evaluate`, or choose another scale"
            )
        held = [path for name, meta in files.items() for path in ([meta] if name == "reference" else
                [meta, *sorted(meta.parent.glob("*.npy"))])]  # fmt: skip
        return Step("stores", "stores of your own", (), (), reads=tuple(map(str, held)), folders=("stores",))
