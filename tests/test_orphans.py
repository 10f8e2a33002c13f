"""Processes that outlive a killed one: workers of a pool end with it, a trial of a sweep is waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fluxlight.files import claim

ROOT = Path(__file__).resolve().parents[1]

POOL = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from fluxlight.files import claim
from fluxlight.files.orphans import end_with_parent

def work(folder):
    lock = claim(folder)
    (Path(folder) / "pid").write_text(str(os.getpid()))
    time.sleep(300)

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as pool:
        pool.submit(work, sys.argv[1]).result()
"""


def until(what: object, seconds: float = 120.0) -> bool:
    end = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.05)
    return bool(found)


def test_a_worker_ends_with_a_killed_parent_and_gives_its_folder_back(tmp_path: Path) -> None:
    script, folder = tmp_path / "pool.py", tmp_path / "run"
    script.write_text(POOL)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script), str(folder)], env=environment)
    assert until((folder / "pid").is_file)
    with pytest.raises(ValueError, match="in use by another run"):
        claim(folder)
    parent.kill()
    parent.wait()

    def free() -> bool:
        try:
            claim(folder).release()
        except ValueError:
            return False
        return True

    assert until(free, 30)


def test_every_pool_ends_with_its_parent() -> None:
    files = [path for room in ("fluxlight", "experiments") for path in (ROOT / room).rglob("*.py")]
    pools = {path.name: path.read_text() for path in files if "ProcessPoolExecutor(" in path.read_text()}
    assert len(pools) >= 4 and all("end_with_parent" in text for text in pools.values()), sorted(pools)


def test_a_trial_that_outlives_its_runner_is_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("sweeps")
    from experiments.sweep import draw
    from experiments.sweeps.trials import Trials

    config = {"name": "x", "program": "none", "method": "grid", "metric": {"name": "val/reward", "goal": "maximize"},
              "parameters": {"a": {"values": [1, 2]}}}  # fmt: skip
    trials = Trials(tmp_path, tmp_path, config, "abcd")
    first = trials.add({"a": 1})
    first.state = "running"
    trials._save(first)
    again = Trials(tmp_path, tmp_path, config, "abcd")
    again.load()
    orphan = claim(tmp_path / first.id)
    assert draw(config, again, None, 0) is None and again.waiting
    orphan.release()
    found = draw(config, again, None, 0)
    assert found is not None and found.id == first.id and not again.waiting
