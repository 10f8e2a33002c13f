"""A listener in the loop with one command: ``python -m experiments.listener --from runs/tiny --out runs/listener``.

A planted listener who dislikes drums votes on pairs of clips; a TuneJury head learns it; the head chooses experts
among the model's own clips, and the model goes on training with them; before and after are compared, by measures and
on a blind page. Every step prints the line a user would type: with votes of people in place of the first step
(``fluxlight listen``) it is the way a listener trains a model.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from experiments.chain.command import say, threads
from experiments.chain.numbers import ROOT, read_numbers, shown
from experiments.chain.run_folder import RunFolder
from experiments.chain.steps import Command, Step, StepFailed, run_steps
from fluxlight.cli.arguments import Arguments, within
from fluxlight.encoders.clap_a import ClapA
from fluxlight.files import write_text

SIZES = {
    "debug": {"clips": 48, "votes": 80, "epochs": 8, "prompts": 3, "each": 2, "updates": 2, "batch": 2},
    "tiny": {"clips": 400, "votes": 1200, "epochs": 60, "prompts": 60, "each": 6, "updates": 200,
             "batch": 16},
}  # fmt: skip
"""Size -> clips and votes of the listener, epochs of the head, captions and clips of each that experts are chosen from,
updates and clips of a batch (our choice)."""


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    p = Arguments(prog="python -m experiments.listener", description=__doc__.split("\n")[0])
    add = p.add_argument
    add("--from", dest="source", type=Path, required=True, help="run folder of a chain, with its row 0")
    add("--scale", default="tiny", help="of that chain: its overlay holds the sizes of the model (tiny)")
    add("--size", choices=tuple(SIZES), default="tiny", help="debug: a minute, its numbers mean nothing (tiny)")
    add("--out", type=Path, required=True, help="run folder of this one")
    add("--lr", type=float, default=2e-4, help="learning rate of the model (2e-4)")
    add("--seed", type=within(0), default=42, help="of everything drawn (42)")
    add("--jobs", type=within(1), default=2, help="threads of torch (2)")
    return p


def plan(given: argparse.Namespace) -> list[Step]:
    """The steps, in the order in which they are run."""
    size, source, out = SIZES[given.size], given.source.resolve(), given.out.resolve()
    votes, head = out / "votes", out / "head" / "tunejury.safetensors"
    overlay = shown(ROOT / read_numbers(given.scale)["overlay"])

    def line(*words: object, program: str = "fluxlight") -> Command:
        return Command(program, tuple(map(str, words)))

    def stage(recipe: str, folder: str) -> list[str]:
        """A stage of the text-only model, on the chain's stores."""
        words = [word for name in (f"stages/{recipe}", "heads/none") for word in
                 ("--config", shown(ROOT / "configs" / f"{name}.yaml"))]  # fmt: skip
        words[2:2] = ["--config", overlay]
        words += ["--seed_everything", str(given.seed), "--model.init_from", str(source / "row0" / "bundle")]
        for name, where in (("store", "store"), ("slice", "slice"), ("reference", "reference.safetensors")):
            words += [f"--data.{name}", str(source / where)]
        return [*words, "--trainer.default_root_dir", str(out / folder)]

    hear = [line("votes", "--table", votes / f"{name}.csv", "--out", votes / f"{name}.safetensors", "--text", "false")
            for name in ("train", "val", "test")]  # fmt: skip
    learn = line(
        "fit", "--config", shown(ROOT / "configs/rewards/tunejury.yaml"), "--model.head.inputs",
        f"[[clap_audio, {ClapA.dim}]]", "--model.head.widths", "[64, 32]", "--model.optimizer.lr", "1.0e-3",
        "--data.train", votes / "train.safetensors", "--data.val", votes / "val.safetensors", "--seed_everything",
        given.seed, "--trainer.max_epochs", size["epochs"], "--trainer.default_root_dir", out / "head",
    )  # fmt: skip
    draw = line(
        "predict", *stage("row0_baseline", "experts"), "--data.candidates.prompts", size["prompts"],
        "--data.candidates.per_prompt", size["each"], "--data.candidates.seed", 300000,
    )  # fmt: skip
    choose = [
        line("score", "--config", out / "reward.yaml", "--candidates", out / "experts"),
        # within a prompt: the words that ask for drums are not what the listener votes on
        line("select", "experts", "--candidates", out / "experts", "--slice", source / "slice", "--weight_reward", 1,
             "--weight_clap", 0, "--top", 1, "--among", "prompt", "--cap", 1),
    ]  # fmt: skip
    train = line(
        "fit", *stage("expert_iter", "after"), "--data.experts", out / "experts" / "experts.jsonl",
        "--data.experts_only", "true", "--data.batch_size", size["batch"], "--data.batches_per_epoch", size["updates"],
        "--trainer.max_steps", size["updates"], "--model.optimizer.lr", given.lr, "--ckpt_path", "last",
    )  # fmt: skip
    before, after = source / "row0" / "slice", out / "after" / "slice"
    both = (f"before={before}", f"after={after}")
    listen = line("listen", *both, "--prompts", source / "slice", "--out", out / "listen")
    report = line("--votes", votes, "--head", head, "--before", before, "--after", after, "--prompts",
                  source / "slice", "--out", out, program="experiments.listener.report")  # fmt: skip
    plant = line("--clips", size["clips"], "--votes", size["votes"], "--seed", given.seed, "--out", votes,
                 program="experiments.listener.votes")  # fmt: skip
    return [
        Step("votes", "a listener who dislikes drums votes", (plant,), ("votes/*.csv", "votes/drums.json")),
        Step("heard", "votes to inputs of a head", tuple(hear), ("votes/*.safetensors",), ("votes",)),
        Step("head", "a TuneJury head learns the listener", (learn,), ("head/tunejury.*",), ("heard",)),
        Step("experts", "the head chooses among the model's own clips", (draw, *choose), ("experts/experts.jsonl",),
             ("head",)),
        Step("after", "the model goes on with what was chosen", (train,), ("after/bundle/*", "after/slice/**/*"),
             ("experts",)),
        Step("listen", "a blind page of before and after", (listen,), ("listen/index.html",), ("after",)),
        Step("report", "what was learned, what has moved", (report,), ("listener.json", "README.md"), ("after",)),
    ]  # fmt: skip


def main(args: Sequence[str] | None = None) -> int:
    """Run what is missing; 0 when all is there, 2 after an error, 130 after Ctrl-C."""
    given = parser().parse_args(args)
    try:
        source, out = given.source.resolve(), given.out.resolve()
        needed = ("row0/bundle/model.yaml", "row0/slice/candidates.jsonl", "store/meta.json", "slice/meta.json")
        if absent := [name for name in needed if not (source / name).is_file()]:
            raise ValueError(f"--from {source} has no {absent[0]}: give the run folder of a chain with its row 0")
        if out == source or source in out.parents:
            raise ValueError(f"--out {out} is in the chain's run folder: choose another folder")
        if out.is_dir() and any(out.iterdir()) and not (out / "steps").is_dir():
            raise ValueError(f"--out {out} holds files of something else: choose another folder")
        threads(given.jobs)
        write_text(out / "reward.yaml", reward_config(out / "head" / "tunejury.safetensors"))
        run_steps(RunFolder(out), plan(given), say)
        say(f"read {out / 'README.md'}, vote on {out / 'listen' / 'index.html'}")
        return 0
    except KeyboardInterrupt:
        say("interrupted; what is done is kept, the same command goes on")
        return 130
    except (StepFailed, ValueError, OSError) as error:
        if os.environ.get("FLUXLIGHT_DEBUG"):
            raise
        say(f"listener: {error}; what is done is kept, the same command goes on")
        return 2


def reward_config(head: Path) -> str:
    """Settings of ``fluxlight score`` with a head of one's own."""
    reward = {"class_path": "fluxlight.rewards.TuneJuryReward",
              "init_args": {"head": str(head), "clap": {"class_path": "fluxlight.encoders.ClapA"}}}  # fmt: skip
    return "# A head that learned from votes, as the reward of `fluxlight score --config`.\n" + yaml.safe_dump(
        {"reward": reward}, sort_keys=False
    )
