"""The decomposition table as steps: which command lines make rows 0 to 4, their floors and the score sweep.

::

    corpus -> stores -> trunk -+-> row0                    text only
                               +-> row1 -> experts -> row2 -> row3 -> pairs -> row4
                                    |      predict    mixture,  the same    predict   CRPO
                                    |      score      polish    weights     score
                                    |      select               in v2       select
                                    +-> row2c   the updates of row2 on the store alone
                                    +-> sweep

Rows share prompts, noise, guidance and post-processing; what a fit renders at its end is what the table measures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.chain.data_steps import Data
from experiments.chain.numbers import CHOICES, FIRST, ROOT, SHARED, TITLES, asked, folder_of, shipped_weights, shown
from experiments.chain.steps import Command, Step


@dataclass(frozen=True)
class Decomposition:
    """Builds the steps of one scale.

    Attributes:
        out: run folder.
        numbers: the chain file of the scale (``configs/chain``).
        overlay: the scale overlay of the stages.
        seed: seed of initialisation, order of rows and training draws of every stage.
        slice_seed: noise seed of prompt 0 of the slice.
        jobs: processes that render the corpus and judge the clips.
        trainings: how often rows 0 to 4 are trained, each time whole, under the seeds ``seed``, ``seed`` + 1, ...
        branch: folder of a further training below ``out``; empty for the first.
    """

    out: Path
    numbers: dict[str, Any]
    overlay: Path
    seed: int = 42
    slice_seed: int = 42
    jobs: int = 2
    trainings: int = 1
    branch: str = ""

    def world(self, part: str) -> list[str]:
        """Arguments that put another world's overlay over ``stages`` or ``scores``; none in the embedded one."""
        path = (self.numbers.get("world") or {}).get(part)
        return ["--config", shown(ROOT / path)] if path else []

    @property
    def judges(self) -> tuple[str, ...]:
        """Arguments that say who judges, where it is not the embedded judges: there one reward drives and judges."""
        name = (self.numbers.get("world") or {}).get("judges", "embedded")
        return () if name == "embedded" else ("--judges", name, "--optimised", "reward")

    @property
    def judging(self) -> str:
        """Processes that judge: one costs about ten seconds of imports, too much for a handful of clips."""
        sizes = self.numbers["corpus"]
        return str(self.jobs if sizes is None or sizes["slice"] >= 50 else 1)

    @property
    def data(self) -> Data:
        """Where store, slice and reference come from."""
        return Data(self.out, self.numbers, self.jobs)

    def at(self, *parts: str) -> str:
        """A path below the run folder."""
        return str(self.out.joinpath(*parts))

    @property
    def shipped(self) -> bool:
        """Rows 0 and 1 branch from the shipped trunk, which all trainings share."""
        return bool(self.numbers["trunk"] == "shipped")

    def own(self, step: str) -> str:
        """The name, and the folder, of a step of this training; data belongs to all of them."""
        shared = not self.branch or step in ("", *SHARED, *(("trunk",) if self.shipped else ()))
        return step if shared else f"{self.branch}/{step}"

    def placed(self, name: str, title: str, needs: tuple[str, ...]) -> tuple[str, str, tuple[str, ...]]:
        """Name, title and needs of a step as this training has them."""
        return self.own(name), f"{title} (seed {self.seed})" if self.branch else title, tuple(map(self.own, needs))

    def others(self) -> list[Decomposition]:
        """The further trainings."""
        return [replace(self, seed=k, branch=f"seed{k}", trainings=1)
                for k in range(self.seed + 1, self.seed + self.trainings)]  # fmt: skip

    def steps(self) -> list[Step]:
        """All steps, in the order in which they are run."""
        return [
            *self.data.steps(),
            *self.training(),
            *(step for other in self.others() for step in other.training()),
            self.validate("untrained", "row0_baseline", "floor: the model before any training", "", ("stores",)),
            self.noise(),
            *self.sweep(),
            self.evaluate(),
            self.report(),
        ]

    def training(self) -> list[Step]:
        """Rows 0 to 4 under one training seed."""
        start, branch = (["trunk"], "trunk") if self.numbers["trunk"] else ([], "")
        return [
            *([self.trunk()] if start and not (self.shipped and self.branch) else []),
            self.fit("row0", "row0_baseline", "Row 0, text only", branch, needs=("stores", *start)),
            self.fit("row1", "score_cond_sft", "Row 1, score-conditioned SFT (v1)", branch, needs=("stores", *start)),
            self.candidates("experts", "score_cond_sft", "row1"),
            self.fit("mixture", "expert_iter", "Row 2, first part: experts in the mixture", "row1", ("row1", "experts"),
                     self.chosen("experts"), render=False),
            self.fit("row2", "expert_polish", "Row 2, second part: experts alone", "mixture", ("mixture", "experts"),
                     self.chosen("experts")),
            *self.control(),
            self.validate("row3", "cross_load", "Row 3, the weights of Row 2 in v2, no training", "row2", ("row2",)),
            self.candidates("pairs", "cross_load", "row3"),
            self.fit("row4", "preference" if self.loss else "crpo", "Row 4, preference", "row3", ("row3", "pairs"),
                     (*self.chosen("pairs"), *self.loss)),
        ]  # fmt: skip

    # -- rows ----------------------------------------------------------------------------------------------------

    def stage(self, recipe: str, folder: str, init: str = "") -> list[str]:
        """Arguments shared by every call of a stage: recipe, overlay, data, seeds, folders."""
        words = ["--config", shown(ROOT / "configs" / "stages" / f"{recipe}.yaml"), "--config", shown(self.overlay)]
        words += self.world("stages")
        words += ["--seed_everything", str(self.seed), "--data.slice_seed", str(self.slice_seed)]
        words += ["--data.store", self.data.place("store"), "--data.slice", self.data.place("slice")]
        # the table measures all rows, once and by more judges
        words += ["--data.reference", self.data.place("reference"), "--data.slice_measured", "false"]
        words += ["--trainer.default_root_dir", self.at(folder)]
        return words + (["--model.init_from", self.at(init, "bundle")] if init else [])

    def fit(self, name: str, recipe: str, title: str, init: str = "", needs: tuple[str, ...] = (),
            more: tuple[str, ...] = (), render: bool = True) -> Step:  # fmt: skip
        """Train a stage; its last validation renders the row."""
        name, title, needs = self.placed(name, title, needs)
        words = [*self.stage(recipe, name, self.own(init)), *more]
        words += [] if render else ["--trainer.limit_val_batches", "0"]
        command = Command("fluxlight", ("fit", *words, "--ckpt_path", "last"))
        outputs = (f"{name}/bundle/*", *((f"{name}/slice/**/*",) if render else ()))
        return Step(name, title, (command,), outputs, needs)

    def control(self) -> list[Step]:
        """Row 2 without its experts: the same updates, rates, noise and times, on the store alone."""
        alone = ("--data.oversample", "0", "--data.experts_only", "false")
        first, second = "control: the updates of Row 2's first part, no experts", "control: those of its second"
        return [
            self.fit("further", "expert_iter", first, "row1", ("row1",), alone, render=False),
            self.fit("row2c", "expert_polish", second, "further", ("further",), alone),
        ]

    def trunk(self) -> Step:
        """The text-only model that rows 0 and 1 branch from, trained here or shipped; a few of its clips are heard."""
        few = ("--data.slice_clips", str(FIRST))
        if not self.shipped:
            return self.fit("trunk", "trunk", "the text-only trunk of rows 0 and 1", "", ("stores",), few)
        title = "the shipped text-only trunk of rows 0 and 1"
        step = self.validate("trunk", "trunk", title, "trunk/shipped", ("stores",), *few)
        unpack = Command("experiments.shipped_trunk", ("--out", self.at("trunk", "shipped")))
        return replace(step, commands=(unpack, *step.commands), reads=shipped_weights())

    def validate(self, name: str, recipe: str, title: str, init: str, needs: tuple[str, ...], *more: str) -> Step:
        """Render a model as it is."""
        name, title, needs = self.placed(name, title, needs)
        command = Command("fluxlight", ("validate", *self.stage(recipe, name, self.own(init)), *more))
        return Step(name, title, (command,), (f"{name}/bundle/*", f"{name}/slice/**/*"), needs)

    def candidates(self, kind: str, recipe: str, row: str) -> Step:
        """Draw candidates of ``row`` for training captions, score them, select."""
        numbers = self.numbers[kind]
        name = self.own(kind)
        words = [*self.stage(recipe, name, self.own(row)), *asked(numbers)]
        for key in ("prompts", "per_prompt", "seed"):
            words += [f"--data.candidates.{key}", str(numbers[key])]
        # pairs take other captions than the experts
        words += ["--data.candidates.skip", str(self.numbers["experts"]["prompts"] if kind == "pairs" else 0)]
        folder = ("--candidates", self.at(name))
        choice = [word for key in CHOICES if numbers.get(key) is not None for word in (f"--{key}", str(numbers[key]))]
        commands = (
            Command("fluxlight", ("predict", *words)),
            Command("fluxlight", ("score", *self.world("scores"), *folder)),
            Command("fluxlight", ("select", kind, *folder, "--slice", self.data.place("slice"), *choice)),
        )
        left = ("candidates.jsonl", "scores.jsonl", f"{kind}.jsonl", "latents/*", "audio/*")
        outputs = tuple(f"{name}/{file}" for file in left)
        title = f"candidates of {row}: predict, score, select {kind}"
        name, title, needs = self.placed(kind, title, (row, "stores"))
        return Step(name, title, commands, outputs, needs)

    @property
    def loss(self) -> tuple[str, ...]:
        """Arguments of a preference loss in place of the published CRPO: its class and settings, or none."""
        given = dict(self.numbers["pairs"].get("loss") or {})
        words = ("--model.loss", given.pop("class")) if given else ()
        return (*words, *(word for key, value in given.items() for word in (f"--model.loss.{key}", str(value))))

    def chosen(self, kind: str) -> tuple[str, ...]:
        """Where a stage finds its selection, and the spread that experts are brought to."""
        spread = self.numbers[kind].get("spread")
        more = () if spread is None else ("--data.spread", str(spread))
        return (f"--data.{kind}", self.at(self.own(kind), f"{kind}.jsonl"), *more)

    # -- table ---------------------------------------------------------------------------------------------------

    def noise(self) -> Step:
        """White noise in place of music."""
        words = ("--prompts", self.data.place("slice"), "--seed", str(self.slice_seed), "--out", self.at("noise"))
        command = Command("experiments.white_noise", words)
        return Step("noise", "floor: white noise", (command,), ("noise/*",), ("stores",))

    def sweep(self) -> list[Step]:
        """Render Row 1 at several scores, then fit the slope of the rewards."""
        points, prompts = self.numbers["sweep"]["points"], self.numbers["sweep"]["prompts"]
        quantiles = [0.01 + 0.98 * k / (points - 1) for k in range(points)]
        renders = [
            self.validate(f"sweep/q{q:.2f}", "score_cond_sft", f"Row 1 asked for the {q:.2f} quantile of the scores",
                          "row1", ("row1",), "--model.score_quantile", f"{q:.4g}", "--data.slice_clips", str(prompts))
            for q in quantiles
        ]  # fmt: skip
        folders = [self.at(step.name, "slice") for step in renders]
        words = ("--prompts", self.data.place("slice"), "--jobs", self.judging, "--out", self.at("sweep.json"))
        slope = Command("experiments.score_sweep", (*words, *self.judges, "--plots", self.at("plots"), *folders))
        outputs, needs = ("sweep.json", "plots/score_sweep_*"), tuple(step.name for step in renders)
        return [
            *renders,
            Step("slope", "does the reward rise with the score?", (slope,), outputs, needs, (), shipped_weights()),
        ]

    def rows(self) -> dict[str, str]:
        """Rows of the table -> folders of clips."""
        names = {"white noise": "noise", "untrained": "untrained/slice"}
        return names | {title: f"{folder_of(title)}/slice" for title in TITLES}

    def heard(self) -> dict[str, str]:
        """What there is to hear beside the rows -> folders of clips of the first prompts."""
        real = {"real": "first/real", "codec round trip": "first/round_trip"} if self.numbers["corpus"] else {}
        return real | ({"trunk": "trunk/slice"} if self.numbers["trunk"] else {})

    def evaluate(self) -> Step:
        """The table, its plots and the listening page."""
        words = [word for name, folder in self.rows().items() for word in ("--system", f"{name}={self.at(folder)}")]
        for other in self.others():
            for title in TITLES:
                words += ["--seed-of", f"{title}={self.at(other.own(folder_of(title)), 'slice')}"]
        words += ["--prompts", self.data.place("slice"), "--reference", self.data.place("reference")]
        words += ["--resamples", str(self.numbers["resamples"]), "--jobs", self.judging, "--out", str(self.out)]
        words += [word for name, folder in self.heard().items() for word in ("--listen", f"{name}={self.at(folder)}")]
        words += ["--against", "2 expert iteration=1 score-cond. SFT", *self.judges]
        outputs = ("table.json", "scores.json", "index.html", "plots/*", "spectrograms/**/*")
        # the page also shows the plots of the sweep, hence "slope"

        heard = dict.fromkeys(folder.split("/")[0] for folder in self.heard().values())
        trained = [of.own(folder_of(title)) for of in (self, *self.others()) for title in TITLES]
        needs = ("stores", *heard, "noise", "untrained", *trained, "slope")
        command = Command("fluxlight", ("evaluate", *words))
        title = "judge all rows: table, plots, listening page"
        return Step("evaluate", title, (command,), outputs, needs, (), shipped_weights())

    def report(self) -> Step:
        """Put table, sweep, published numbers and provenance on one page."""
        command = Command("experiments.report", ("--run", str(self.out), "--store", self.data.place("store")))
        outputs = ("table.md", "provenance.json", "report.json")
        return Step("report", "one page with everything", (command,), outputs, ("evaluate",), ())
