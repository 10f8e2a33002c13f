"""A search chooses on one half of the slice; its table reports on the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from small_callbacks import woken
from small_world import SmallCodec, SmallReward, make_data, make_trainer

from callbacks import RenderSlice, RewardCallback
from experiments.cells.source import half_in, put_half
from experiments.sweep_table import half_of_trials
from fluxlight.evaluation.judging import prepare
from fluxlight.files import read_jsonl
from fluxlight.prompts import half_of


def test_the_measures_of_a_rendering_can_be_of_one_half(tmp_path: Path) -> None:
    found = {}
    for half in (None, "choose", "report"):
        out = tmp_path / str(half)
        trainer = make_trainer(out, [RenderSlice(SmallCodec(), half=half), RewardCallback(SmallReward())])
        trainer.validate(woken(), datamodule=make_data(tmp_path), verbose=False)
        rows = read_jsonl(out / "slice/candidates.jsonl")
        kept = [row for row in rows if half in (None, half_of(row["id"]))]
        audio = [soundfile.read(out / "slice" / row["audio"], dtype="float32")[0] for row in kept]
        waves = [prepare(wave, 8000, "locked") for wave in audio]
        expected = float(torch.from_numpy(np.stack(waves)).std(1).mean())
        found[half] = (len(rows), float(trainer.callback_metrics["val/reward"]))
        assert found[half][1] == pytest.approx(expected, rel=1e-5)
    # all clips are rendered in any case: the other half is there to report on
    assert len({count for count, _ in found.values()}) == 1 and len({value for _, value in found.values()}) == 3


def test_a_sweep_reports_on_the_half_that_no_trial_was_measured_on(tmp_path: Path) -> None:
    config = {"trainer": {"callbacks": [{"class_path": "callbacks.RenderSlice"}, {"class_path": "callbacks.CLAP"}]}}
    for name, half in (("a", "choose"), ("b", "choose"), ("c", None)):
        put_half(config, half)
        assert half_in(config) == half
        (tmp_path / name).mkdir()
        (tmp_path / name / "trial.yaml").write_text(yaml.safe_dump(config))
    a, b, c = (tmp_path / name for name in "abc")
    assert half_of_trials([a, b]) == "report" and half_of_trials([a, b, c]) is None
    assert half_of_trials([tmp_path / "nowhere"]) is None
