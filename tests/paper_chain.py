"""A finished chain on paper: run folders with their real configurations and markers, and nothing trained."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import yaml
from small_world import make_candidates, make_world

from experiments.chain.run_folder import RunFolder
from fluxlight.cli import main
from fluxlight.files import read_jsonl, write_jsonl

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
STEPS = {
    "trunk": ("trunk", "fit", ""),
    "row0": ("row0_baseline", "fit", "trunk"), "row1": ("score_cond_sft", "fit", "trunk"),
    "experts": ("score_cond_sft", "predict", "row1"), "mixture": ("expert_iter", "fit", "row1"),
    "row2": ("expert_polish", "fit", "mixture"), "further": ("expert_iter", "fit", "row1"),
    "row2c": ("expert_polish", "fit", "further"), "row3": ("cross_load", "validate", "row2"),
    "pairs": ("cross_load", "predict", "row3"), "row4": ("crpo", "fit", "row3"),
}  # fmt: skip


def make_chain(folder: Path) -> Path:
    """Write the chain; its stages are those of the small world, its weights one byte each."""
    world = make_world(folder)
    run = RunFolder(folder)
    (folder / "reference.safetensors").write_bytes(b"reference")
    mark(
        run,
        "stores",
        [["fluxlight", "encode", "--out", "<out>/store"]],
        ["store/*", "slice/*", "reference.safetensors"],
    )
    for step, (recipe, verb, start) in STEPS.items():
        words = [
            "--config",
            str(CONFIGS / "stages" / f"{recipe}.yaml"),
            "--config",
            str(world),
            "--seed_everything",
            "42",
        ]
        for name in ("store", "slice"):
            words += [f"--data.{name}", str(folder / name)]
        words += [
            "--data.reference",
            str(folder / "reference.safetensors"),
            "--data.slice_measured",
            "false",
            "--trainer.default_root_dir",
            str(folder / step),
        ]
        words += ["--model.init_from", str(folder / start / "bundle")] if start else []
        words += ["--trainer.limit_val_batches", "0"] if step in ("mixture", "further") else []
        alone = ["--data.oversample", "0", "--data.experts_only", "false"]
        words += alone if step in ("further", "row2c") else []
        words += ["--data.experts", str(folder / "experts" / "experts.jsonl")] if step in ("mixture", "row2") else []
        words += ["--data.pairs", str(folder / "pairs" / "pairs.jsonl")] if step == "row4" else []
        out = io.StringIO()
        with redirect_stdout(out):
            assert main([verb, *words, "--print_config"], standalone=False) == 0
        name = {"fit": "config", "validate": "config-validate", "predict": "config-predict"}[verb]
        (folder / step / "bundle").mkdir(parents=True)
        (folder / step / "bundle" / "weights.safetensors").write_bytes(step.encode())
        (folder / step / "slice").mkdir()
        write_jsonl(folder / step / "slice" / "candidates.jsonl", [])
        config = yaml.safe_load(out.getvalue())
        (folder / step / f"{name}.yaml").write_text(yaml.safe_dump({**config, "ckpt_path": None}))
        typed = [word.replace(str(folder), "<out>") for word in words]
        commands = [["fluxlight", verb, *typed]]
        if verb == "predict":
            candidates(folder / step, folder / "store")
            select = ["--candidates", f"<out>/{step}", "--top", "0.5"]
            commands += [["fluxlight", "score"], ["fluxlight", "select", step, *select]]
        mark(run, step, commands, [f"{step}/**/*"])
    return folder


def mark(run: RunFolder, step: str, commands: list[list[str]], outputs: list[str]) -> None:
    """A step's marker, as the chain leaves it."""
    inputs = {"commands": commands, "files": {}, "needs": {}}
    run.start(step, inputs, [], wipe=False)
    run.finish(step, inputs, outputs, 60.0)


def candidates(folder: Path, store: Path, prompts: int = 4, each: int = 3) -> None:
    """Scored candidates of random latents: candidate j of prompt i has seed 1000 + j * prompts + i."""
    make_candidates(folder, store, prompts)
    rng, rows = np.random.default_rng(1), []
    for i, row in enumerate(read_jsonl(store / "rows.jsonl")[:prompts]):
        for j in range(each):
            latent = f"latents/{i}{'ab'[j % 2]}.npy"
            rows.append({"id": row["id"], "prompt": row["caption"], "seed": 1000 + j * prompts + i, "checkpoint": "x",
                         "audio": "a.wav", "latent": latent, "error": "", "reward": float(rng.normal()),
                         "clap": float(rng.normal())})  # fmt: skip
    write_jsonl(folder / "scores.jsonl", rows)
