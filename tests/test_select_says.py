"""``fluxlight select`` says how many candidates it passed over, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluxlight.cli.select import main
from fluxlight.files import write_json, write_jsonl


def test_candidates_without_a_finite_score_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"checkpoint": "x", "prompt": "a tune", "audio": "a.wav", "latent": "a.npy", "clap": 0.1, "error": ""}
    rows = [{**row, "id": f"p{k}", "seed": k, "reward": float(k)} for k in range(4)]
    rows.append({**row, "id": "p9", "seed": 9, "reward": None})
    rows.append({**row, "id": "p8", "seed": 8, "reward": 1.0, "error": "no"})
    write_jsonl(tmp_path / "scores.jsonl", rows)
    write_json(tmp_path / "slice.json", [{"id": "held", "prompt": "b"}])
    words = ["experts", "--candidates", str(tmp_path), "--slice", str(tmp_path / "slice.json"), "--top", "0.5"]
    assert main(words) == 0
    assert "of 6 scored candidates (1 failed, 1 without a finite score)" in capsys.readouterr().out
