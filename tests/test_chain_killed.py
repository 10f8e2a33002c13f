"""The real chain, killed three times at random points: the same command ends with the same files."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from experiments.chain.decomposition import Decomposition
from experiments.chain.numbers import ROOT, read_numbers
from fluxlight.files import read_json

SMALLEST = {
    "corpus": {"train": 12, "reference": 8, "slice": 6},
    "experts": {"prompts": 3, "per_prompt": 2, "seed": 100000, "score_quantile": 0.9, "top": 0.5},
    "pairs": {"prompts": 3, "per_prompt": 2, "seed": 200000, "score_quantile": 0.99},
    "sweep": {"points": 2, "prompts": 2},
    "resamples": 20,
}


def start(scale: Path, out: Path, cache: Path) -> subprocess.Popen[bytes]:
    words = ["--scale", str(scale), "--out", str(out), "--cache", str(cache), "--jobs", "1"]
    log = (out.parent / f"{out.name}.log").open("ab")
    # its own session: a kill must not reach pytest, and must reach what the chain has started
    words = [sys.executable, "-m", "experiments.chain", *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log, start_new_session=True, env=env)


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    code = process.wait(timeout=1800)
    assert code == 0, f"chain ended with {code}:\n{log.read_text()[-3000:]}"


def outputs(out: Path) -> dict[str, str]:
    """Hashes of everything the chain vouches for; the report carries the git revision, which may move meanwhile."""
    markers = [read_json(path) for path in sorted((out / "steps").rglob("*.json")) if path.stem != "report"]
    return {name: digest for marker in markers for name, digest in marker["outputs"].items()}


def test_three_kills_at_random_points_and_the_same_command_give_the_same_files(tmp_path: Path):
    numbers = {**read_numbers("debug"), **SMALLEST}
    scale = tmp_path / "smallest.yaml"
    scale.write_text(yaml.safe_dump(numbers))
    cache, calm, killed = tmp_path / "cache", tmp_path / "calm", tmp_path / "killed"
    finish(start(scale, calm, cache), tmp_path / "calm.log")

    draw = random.Random(20)
    steps = [step.name for step in Decomposition(killed, numbers, ROOT / numbers["overlay"]).steps()]
    hits = 0
    for name in sorted(draw.sample(steps[1:], 3), key=steps.index):
        process = start(scale, killed, cache)
        marker = killed / "steps" / f"{name}.json"
        while process.poll() is None and not marker.exists():
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 2))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            hits += 1
        process.wait()
    assert hits, "the chain was faster than every kill: nothing was tested"
    finish(start(scale, killed, cache), tmp_path / "killed.log")

    a, b = outputs(calm), outputs(killed)
    assert {name for name in a.keys() | b.keys() if a.get(name) != b.get(name)} == set()
    kinds = {Path(name).name for name in a}
    assert {"weights.safetensors", "table.json", "experts.jsonl", "pairs.jsonl"} <= kinds
    assert sum(name.endswith(".wav") for name in a) >= 7 * 6
    # a second call finds everything done
    again = tmp_path / "again"
    killed.rename(again)
    finish(start(scale, again, cache), tmp_path / "again.log")
    assert "0 steps done now" in (tmp_path / "again.log").read_text()
