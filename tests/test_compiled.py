"""Compiled blocks inside a run: the same training under the same names."""

from __future__ import annotations

from pathlib import Path

import torch
from small_world import make_data, make_stage, make_trainer, wake

from callbacks import BundleWriter, Compiled, LastCheckpoint, PowerEMA
from fluxlight.bundle import load_bundle
from fluxlight.heads import InputAdd  # type: ignore[attr-defined]


def test_a_compiled_run_trains_the_same_model(tmp_path: Path) -> None:
    models = {}
    for name, more in (("plain", []), ("compiled", [Compiled(backend="aot_eager")])):
        stage = make_stage(head=InputAdd)
        wake(stage.model, 0.1)
        callbacks = [*more, BundleWriter(), LastCheckpoint(), PowerEMA()]
        make_trainer(tmp_path / name, callbacks, max_steps=4).fit(stage, make_data(tmp_path))
        blocks = stage.model.backbone.heavy
        assert all((b._compiled_call_impl is not None) == (name == "compiled") for b in blocks) and len(blocks) > 2
        models[name] = [load_bundle(tmp_path / name / "bundle", which).state_dict() for which in ("raw", "ema")]
    for plain, compiled in zip(models["plain"], models["compiled"], strict=True):
        assert list(plain) == list(compiled)
        for key, value in plain.items():
            torch.testing.assert_close(compiled[key], value, atol=2e-4, rtol=0, msg=key)
