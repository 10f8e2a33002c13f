"""Commands: everything that runs longer than a minute on real data, at debug size, in the order of its inputs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Command:
    """A line of the table.

    Attributes:
        name: of the line.
        words: of the command line; ``{work}`` is the folder of the run.
        outs: what it leaves below that folder.
        program: ``fluxlight``, or a module with a ``main``.
        needs: lines whose results it reads.
        prepare: makes further inputs, once; in a process of its own.
        ledgers: append-only files of rows, which may hold failed attempts: file name -> key of a row.
        wall: it waits for processes of its own.
        stops: at most so many ends on one way to the result.
        quick: part of what CI runs.
        environment: variables of its own.
    """

    name: str
    words: str
    outs: tuple[str, ...]
    program: str = "fluxlight"
    needs: tuple[str, ...] = ()
    prepare: Callable[[Path], None] | None = None
    ledgers: dict[str, str] = field(default_factory=dict)
    wall: bool = False
    stops: int = 3
    quick: bool = False

    def call(self, work: Path) -> Callable[[], Any]:
        """What runs it within a process."""
        words = [word.replace("{work}", str(work)).replace("{root}", str(ROOT)) for word in self.words.split()]
        program = "fluxlight.cli" if self.program == "fluxlight" else self.program
        return lambda: importlib.import_module(program).main(words)


def fit(stage: str, step: str, more: str = "", needs: tuple[str, ...] = (), quick: bool = False) -> Command:
    """A fit of 12 updates with a checkpoint every 2."""
    words = f"fit --config {{root}}/configs/stages/{stage}.yaml --config {{work}}/world/small.yaml --ckpt_path last"
    words += f" --plan.{step}.updates 12 --plan.{step}.epoch 2 --trainer.default_root_dir {{work}}/{stage} {more}"
    return Command(stage, words, (stage,), needs=needs, quick=quick)


def world(work: Path) -> None:
    """Store and slice of the small world, and audio with captions."""
    import numpy as np
    import soundfile
    import yaml
    from small_world import make_world

    make_world(work / "world")
    rng, rows = np.random.default_rng(0), ["id\tcaption"]
    (work / "audio").mkdir()
    for k in range(24):
        wave = 0.3 * np.sin(np.arange(16000) * (0.05 + 0.01 * k)) + 0.05 * rng.normal(size=16000)
        soundfile.write(work / "audio" / f"tune{k:02d}.wav", wave, 16000)
        rows.append(f"tune{k:02d}\ta {'banjo' if k % 2 else 'flute'} tune, number {k}")
    (work / "captions.tsv").write_text("\n".join(rows) + "\n")
    (work / "prompts.tsv").write_text("\n".join(row.replace("caption", "prompt") for row in rows[:13]) + "\n")
    judges = {
        "claps": {"judge": {"class_path": "small_world.SmallJudge"}},
        "rewards": {"reward": {"class_path": "small_world.SmallReward"}},
    }
    (work / "judges.yaml").write_text(yaml.safe_dump({"sizes": [1, 1, 1], "judges": judges}))


def model(work: Path) -> None:
    """A model folder of the small world."""
    from fluxlight.bundle import load_bundle, save_bundle
    from fluxlight.generate import read_pipeline

    parts = {name: {"class_path": f"small_world.Small{name.title()}"} for name in ("codec", "text", "clap")}
    pipeline = read_pipeline(work / "score_cond_sft", parts)
    save_bundle(work / "model", load_bundle(work / "score_cond_sft/bundle"), {"pipeline": pipeline.plain()})


def paper(work: Path) -> None:
    """A chain on paper, and a sweep of two trials over it."""
    import yaml
    from paper_chain import make_chain

    make_chain(work / "paper")
    config = yaml.safe_load((ROOT / "experiments/sweeps/heads.yaml").read_text())
    config["parameters"] |= {
        "config": {"value": "configs/heads/input_add.yaml"}, "seed_everything": {"values": [7, 8]},
        "model.init_from": {"value": "null"}, "data.reference": {"value": "null"},
    }  # fmt: skip
    (work / "two.yaml").write_text(yaml.safe_dump(config))


def smallest(work: Path) -> None:
    """The smallest scale that a chain can have."""
    import yaml

    from experiments.chain.numbers import read_numbers

    few = {"prompts": 3, "per_prompt": 2}
    numbers = {
        **read_numbers("debug"), "corpus": {"train": 12, "reference": 8, "slice": 6},
        "experts": {**few, "seed": 100000, "score_quantile": 0.9, "top": 0.5},
        "pairs": {**few, "seed": 200000, "score_quantile": 0.99}, "sweep": {"points": 2, "prompts": 2}, "resamples": 20,
    }  # fmt: skip
    (work / "smallest.yaml").write_text(yaml.safe_dump(numbers))


SMALL = " ".join(f"--{name} small_world.Small{name.title()}" for name in ("codec", "text", "clap", "reward"))
SFT = "--config {root}/configs/stages/score_cond_sft.yaml --config {work}/world/small.yaml"
EXPERTS = "--data.experts {work}/candidates/experts.jsonl"
PAIRS = "--data.pairs {work}/candidates/pairs.jsonl"
CHOSEN = ("select experts", "select pairs")

COMMANDS = (
    Command("corpus", "corpus --train 3 --reference 2 --slice 2 --jobs 1 --folder {work}/corpus", ("corpus",)),
    Command(
        "encode",
        f"encode --out {{work}}/store {SMALL} --shard 3 --source fluxlight.data.sources.AudioFolder "
        "--source.captions {work}/captions.tsv --source.folder {work}/audio",
        ("store",), prepare=world, quick=True,
    ),
    Command(
        "encode prompts",
        f"encode --out {{work}}/prompts --text_only true {SMALL} --shard 2 "
        "--source fluxlight.data.prompt_file.PromptFile --source.path {work}/prompts.tsv",
        ("prompts",), needs=("encode",),
    ),
    fit("row0_baseline", "sft", needs=("encode",)),
    fit("score_cond_sft", "sft", "--model.render_every 6 --trainer.callbacks+=callbacks.PowerEMA",
        ("encode",), quick=True),
    Command(
        "predict",
        f"predict {SFT} --model.init_from {{work}}/score_cond_sft/bundle --data.candidates.prompts 8 "
        "--trainer.default_root_dir {work}/candidates",
        ("candidates",), needs=("score_cond_sft",), quick=True,
    ),
    Command(
        "score",
        "score --candidates {work}/candidates --reward small_world.SmallReward --clap small_world.SmallJudge "
        "--batch_size 2",
        ("candidates/scores.jsonl", "candidates"), needs=("predict",), quick=True,
    ),
    Command("select experts", "select experts --candidates {work}/candidates --top 0.4 --slice {work}/world/slice",
            ("candidates/experts.jsonl", "candidates"), needs=("score",)),
    Command("select pairs", "select pairs --candidates {work}/candidates --slice {work}/world/slice",
            ("candidates/pairs.jsonl", "candidates"), needs=("score",)),
    fit("expert_iter", "expert_iter", EXPERTS, CHOSEN),
    fit("expert_polish", "expert_polish", EXPERTS, CHOSEN),
    fit("crpo", "crpo", PAIRS + " --model.init_from {work}/score_cond_sft/bundle --model.head GlobalAdaLN", CHOSEN),
    fit("preference", "crpo", PAIRS, CHOSEN),
    fit("offline_policy", "crpo", PAIRS, CHOSEN),
    Command(
        "generate",
        "generate --model {work}/model --prompts {work}/prompts.tsv --out {work}/clips --trust small_world --batch 2",
        ("clips",), needs=("score_cond_sft",), prepare=model, ledgers={"manifest.jsonl": "id"}, quick=True,
    ),
    Command("postprocess", "postprocess {work}/clips {work}/delivered --passes 0 --batch 2", ("delivered",),
            needs=("generate",), ledgers={"postprocess.jsonl": "file"}, quick=True),
    Command(
        "evaluate",
        "evaluate --system raw={work}/clips --system delivered={work}/delivered --prompts {work}/prompts.tsv "
        "--reference {work}/audio --judges {work}/judges.yaml --out {work}/table --resamples 20 --seconds 0",
        ("table", "cache/embeddings"), needs=("postprocess",),
    ),
    Command("sweep", "{work}/two.yaml --from {work}/paper --out {work}/sweeps --no-table", ("sweeps",),
            program="experiments.sweep", prepare=paper, wall=True, stops=5),
    Command("chain", "--scale {work}/smallest.yaml --out {work}/chain --jobs 1", ("chain", "cache/embeddings"),
            program="experiments.chain", prepare=smallest, stops=10),
)  # fmt: skip
