"""The benchmark runs and reports every part; it asserts nothing about speed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluxlight import bench


def test_network_and_distances_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(bench, "audio", lambda repeats: [])
    file = tmp_path / "bench.md"
    assert bench.main(["--threads", "1", "--repeats", "1", "--markdown", str(file)]) == 0
    printed = capsys.readouterr().out
    assert file.read_text().strip() == printed.strip()
    rows = [line for line in printed.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 4 + 1 + 1
    shares = [float(line.split("|")[3].split()[0]) for line in rows if "of the yardstick" in line and "tiny" in line]
    assert len(shares) == 3 and all(0 < share < 3 for share in shares)


def test_median_leaves_out_the_first_run():
    calls: list[int] = []
    assert bench.seconds(lambda: calls.append(1), 3) >= 0
    assert len(calls) == 4
