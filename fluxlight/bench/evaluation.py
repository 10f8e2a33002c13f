"""Cost: how long evaluating a folder takes with the embedded judges, started as a user would, with nothing cached."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fluxlight.files import write_json

RATE = 44_100


def evaluation_seconds(clips: int = 100, seconds: float = 10.0, jobs: int = 2) -> float:
    """Wall time of ``fluxlight evaluate`` on one folder of synthetic clips: start, judging, table, no page.

    The cache is an empty folder of its own, so every clip is heard by all four judges.

    Args:
        clips: clips in the folder.
        seconds: length of each.
        jobs: processes that judge.

    Raises:
        RuntimeError: the evaluation failed; the message ends with what it said.
    """
    import soundfile

    rng = np.random.default_rng(0)
    at = np.arange(round(seconds * RATE)) / RATE
    with TemporaryDirectory(prefix="fluxlight-cost-") as folder:
        root = Path(folder)
        (root / "clips").mkdir()
        for k in range(clips):
            # a chord that swells, over some hiss: cost does not depend on what is heard
            tones = sum(np.sin(2 * np.pi * f * at) for f in 110 * 2 ** (rng.integers(0, 36, 4) / 12))
            wave = 0.05 * tones * (1 + np.sin(2 * np.pi * 0.5 * at)) + 0.01 * rng.standard_normal(at.size)
            soundfile.write(root / "clips" / f"{k:03d}.wav", wave, RATE, subtype="PCM_16")
        rows = [{"id": f"{k:03d}", "prompt": f"a calm waltz, take {k}"} for k in range(clips)]
        write_json(root / "prompts.json", rows)
        words = [sys.executable, "-m", "fluxlight", "evaluate", str(root / "clips")]
        words += ["--prompts", str(root / "prompts.json"), "--out", str(root / "out"), "--no-page"]
        words += ["--seconds", f"{seconds:g}", "--jobs", str(jobs)]
        environment = {**os.environ, "FLUXLIGHT_CACHE": str(root / "cache")}
        begin = time.perf_counter()
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        took = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"fluxlight evaluate failed: {done.stderr.strip()[-300:]}")
    return took
