"""What run.json says of the data is about its content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from small_world import make_world

from callbacks.run_facts import _checksum


def test_another_latent_is_another_store_though_its_statistics_stay(tmp_path: Path) -> None:
    make_world(tmp_path)
    store = tmp_path / "store"
    before, meta = _checksum(store), (store / "meta.json").read_bytes()
    mean = np.load(store / "mean.npy")
    mean[0, 0], mean[1, 0] = mean[1, 0].copy(), mean[0, 0].copy()
    np.save(store / "mean.npy", mean)
    assert (store / "meta.json").read_bytes() == meta and _checksum(store) != before
    assert len(before) == 16 and _checksum(tmp_path / "slice") not in ("", before)
    (tmp_path / "reference").write_bytes(b"x")
    assert len(_checksum(tmp_path / "reference")) == 16 and _checksum(tmp_path / "none") == ""
