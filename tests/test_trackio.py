"""Trackio without a network: what lands in its database, and what a run that goes on is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from small_world import make_world

ROOT = Path(__file__).resolve().parents[1]

# trackio fixes its folder when it is imported, so all of it happens in a process of its own; no socket may be opened
SCRIPT = """
import json, socket, sys
def refuse(*args, **kwargs):
    raise OSError("no network here")
socket.socket.connect = refuse
from fluxlight.cli import main
words, run = json.loads(sys.argv[1]), sys.argv[2]
assert main([*words, "--trainer.max_steps", "4", "--ckpt_path", "last"], standalone=False) == 0
assert main([*words, "--ckpt_path", "last"], standalone=False) == 0
from trackio.sqlite_storage import SQLiteStorage
runs = SQLiteStorage.get_runs("fluxlight")
rows = [SQLiteStorage.get_logs("fluxlight", run) for run in runs]
print("FOUND " + json.dumps({"runs": runs, "rows": rows}, default=str))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    if find_spec("trackio") is None:
        pytest.skip("trackio is not installed: pip install -e '.[trackio]'")
    folder = tmp_path_factory.mktemp("trackio")
    words = ["fit", "--config", str(ROOT / "configs/stages/score_cond_sft.yaml"), "--config", str(make_world(folder))]
    words += ["--config", str(ROOT / "configs/loggers/trackio.yaml")]
    words += ["--trainer.default_root_dir", str(folder / "row1")]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    env = {k: v for k, v in os.environ.items() if not k.startswith("TRACKIO_")}
    env |= {"FLUXLIGHT_CACHE": str(folder / "cache"), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT, json.dumps(words), str(folder / "row1")],
                          capture_output=True, text=True, env=env)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Trackio" not in done.stdout, "its own lines would stand among the bars"
    said = next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))
    return folder, json.loads(said.removeprefix("FOUND "))


def test_a_run_that_goes_on_is_one_run_under_the_keys_of_the_others(found: tuple[Path, dict[str, Any]]) -> None:
    folder, said = found
    assert len(said["runs"]) == 1 and "ScoreCondSFT GlobalAdaLN seed 42 (row1)" in str(said["runs"])
    keys = {key for row in said["rows"][0] for key in row}
    assert {"train/loss", "train/lr", "val/clap", "val/reward", "val/failed"} <= keys
    losses = [row["step"] for row in said["rows"][0] if "train/loss" in row]
    # the steps of both halves, once each
    assert losses == sorted(set(losses)) and max(losses) >= 7
    assert (folder / "cache" / "trackio").is_dir()


def test_clips_table_and_page_are_in_the_run(found: tuple[Path, dict[str, Any]]) -> None:
    folder, said = found
    shown = next(row for row in said["rows"][0] if "slice/page" in row)
    table = json.dumps(shown["slice/clips"])
    assert table.count("slice-") >= 7 and "CLAP" in table
    kept = [path for path in (folder / "cache" / "trackio" / "media").rglob("*") if path.is_file()]
    # seven prompts, rendered where each half of the run ended
    assert sum(path.suffix == ".wav" for path in kept) == 14 and "slice/audio/6" in shown
    assert any("data:audio/mpeg;base64," in path.read_text() for path in kept if path.suffix == ".html")


def test_without_the_package_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from callbacks.trackio_run import load

    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ImportError, match=r"pip install 'fluxlight\[trackio\]'"):
        load()
