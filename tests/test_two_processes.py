"""Two processes by what exists, Lightning's flags and torchrun, leave what one process leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from small_world import make_world

from fluxlight.cli import main
from fluxlight.clips.candidates import put_in_order
from fluxlight.files import append_jsonl, read_jsonl

ROOT = Path(__file__).resolve().parents[1]


def files(folder: Path) -> dict[str, bytes]:
    names = ("candidates.jsonl", "audio/*", "latents/*")
    return {str(p.relative_to(folder)): p.read_bytes() for name in names for p in sorted(folder.glob(name))}


def test_candidates_of_two_processes_are_those_of_one_byte_by_byte(tmp_path: Path) -> None:
    """Of which a first run of one process was stopped, so that both find some there."""
    config = ROOT / "configs/stages/score_cond_sft.yaml"
    words = ["predict", "--config", str(config), "--config", str(make_world(tmp_path))]
    one, two = (["--trainer.default_root_dir", str(tmp_path / name)] for name in ("one", "two"))
    assert main([*words, *two, "--trainer.limit_predict_batches", "1"]) == 0
    assert len(read_jsonl(tmp_path / "two/candidates.jsonl")) == 5
    assert main([*words, *one]) == 0
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    start = [*start, "-m", "fluxlight", *words, *two]
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*start, "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(read_jsonl(tmp_path / "one/candidates.jsonl")) == 12
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_rows_are_put_in_order_and_others_keep_their_place(tmp_path: Path) -> None:
    rows = [("b", 2, "x", ""), ("old", 9, "w", ""), ("c", 3, "x", ""), ("a", 1, "x", "failed"), ("a", 1, "x", "")]
    made = [dict(zip(("id", "seed", "checkpoint", "error"), row, strict=True)) for row in rows]
    append_jsonl(tmp_path / "candidates.jsonl", made)
    put_in_order(tmp_path, [("a", 1, "x"), ("b", 2, "x"), ("c", 3, "x")])
    found = [(row["id"], row["error"]) for row in read_jsonl(tmp_path / "candidates.jsonl")]
    assert found == [("a", "failed"), ("old", ""), ("a", ""), ("b", ""), ("c", "")]


APPEND = """
import sys
from fluxlight.files import append_jsonl
for k in range(60):
    append_jsonl(sys.argv[1], [{"who": sys.argv[2], "k": k, "part": j, "text": "x" * 3000} for j in range(10)])
"""


def test_rows_of_two_writers_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", APPEND, str(path), who], cwd=ROOT) for who in "ab"]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    rows = read_jsonl(path)
    assert len(rows) == 1200
    batches = np.array([row["part"] for row in rows]).reshape(-1, 10)
    assert (batches == np.arange(10)).all(), "a batch is one piece"
