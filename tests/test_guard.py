"""The guard: a planted hack is caught and not kept, a sound run is left alone, one that goes on is itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_callbacks import LovesClipping, guard_world
from small_world import SmallCodec, make_data, make_stage, make_trainer, wake

from callbacks import BundleWriter, CandidateWriter, Guard, LastCheckpoint, RenderSlice
from fluxlight import bundle
from fluxlight.cli import main
from fluxlight.clips.candidates import load_audio, read_candidates
from fluxlight.data import PairData
from fluxlight.data.sft import Candidates
from fluxlight.files import read_json, read_jsonl, write_jsonl
from fluxlight.losses.nft import NFTLoss
from fluxlight.mining.pairs import BUILDERS, select_pairs
from fluxlight.prompts import half_of
from fluxlight.sample import Sampler
from fluxlight.stages import OfflinePolicy


@pytest.fixture(scope="module")
def hacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start, and pairs of its own candidates in which the planted reward chose the clipped one."""
    folder = tmp_path_factory.mktemp("guard")
    stage = make_stage(sampler=Sampler(steps=4, cfg_weight=1.0))
    wake(stage.model, 0.1)
    data = make_data(folder, candidates=Candidates(prompts=12, per_prompt=6, batch_size=24))
    make_trainer(folder / "drawn", [CandidateWriter(SmallCodec())]).predict(stage, datamodule=data)
    bundle.save_bundle(folder / "start", stage.model)
    rows = [vars(row) for row in read_candidates(folder / "drawn")]
    audio = torch.stack([torch.from_numpy(load_audio(folder / "drawn", row)[0]) for row in rows])
    for row, reward in zip(rows, LovesClipping().score(audio, 8000, []).tolist(), strict=True):
        row["reward"] = reward
    write_jsonl(folder / "drawn/pairs.jsonl", select_pairs(rows, BUILDERS["extremes"]("reward")))
    return folder


def run(folder: Path, name: str, rate: float, steps: int = 24, ckpt: str | None = None, **settings: Any) -> Any:
    """A few policy updates on those pairs under a guard."""
    stage = make_stage(OfflinePolicy, loss=NFTLoss(beta=0.1), init_from=str(folder / "start"),
                       sampler=Sampler(steps=4, cfg_weight=1.0),
                       optimizer=lambda p: torch.optim.AdamW(p, lr=rate))  # fmt: skip
    data = make_data(folder, PairData, pairs=str(folder / "drawn/pairs.jsonl"), batch_size=6)
    given = {"every": 2, "prompts": 12, "draws": 8, "source": "captions", "spread": (0.3, 3.0), "tolerance": 0.5}
    guard = Guard(SmallCodec(), judges=guard_world(folder), **given | settings)
    callbacks = [RenderSlice(SmallCodec()), guard, BundleWriter(), LastCheckpoint()]
    trainer = make_trainer(folder / name, callbacks, steps)
    trainer.fit(stage, datamodule=data, ckpt_path=ckpt)
    return stage


def test_a_planted_hack_is_caught_and_not_kept(hacked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = run(hacked, "hack", 2e-3)
    folder = hacked / "hack"
    rows = read_jsonl(folder / "guard/guard.jsonl")
    *before, last = rows
    assert last["stopped"] and last["update"] < 24 == stage.trainer.max_steps and not any(r["stopped"] for r in before)
    assert stage.trainer.global_step == last["update"]
    assert [row["update"] for row in rows] == list(range(2, last["update"] + 1, 2))
    assert len(rows) >= 2, "the tolerance lets it go on for a while"
    assert last["judges"]["planted"]["driving"] and last["judges"]["planted"]["low"] > 0, "what drives it rises"
    assert last["judges"]["judge"]["high"] < 0 and any(why.startswith("judge") for why in last["why"])
    assert [row["level"] for row in rows] == pytest.approx([0.3 / (3.141592653589793 * m) ** 2 / 3 for m in
                                                           range(1, len(rows) + 1)])  # fmt: skip
    # what is handed on is what was kept, and it was rendered
    recipe = bundle.read_recipe(folder / "bundle")
    assert recipe["info"]["kept"] == last["kept"] < last["update"] == recipe["info"]["update"]
    if last["kept"] == 0:
        assert bundle.bundle_hash(folder / "bundle") == bundle.bundle_hash(hacked / "start")
    assert {row.checkpoint for row in read_candidates(folder / "slice")} == {bundle.bundle_hash(folder / "bundle")}
    found = read_json(folder / "guard/over_optimisation.json")
    assert found["divergence"] > 0 and found["stopped"] and found["distance"][0] == 0 < found["distance"][-1]
    assert (folder / "guard/over_optimisation.svg").read_text().startswith("<svg")
    assert (folder / "guard/over_optimisation.png").stat().st_size > 2000
    said = capsys.readouterr().err
    assert f"guard, update {last['update']}: " in said and f"weights of update {last['kept']} kept" in said


def test_a_run_that_goes_on_looks_as_one_that_was_never_stopped(hacked: Path) -> None:
    whole = read_jsonl(hacked / "hack/guard/guard.jsonl")
    run(hacked, "again", 2e-3, steps=2)
    stage = run(hacked, "again", 2e-3, ckpt=str(hacked / "again/last.ckpt"))
    assert read_jsonl(hacked / "again/guard/guard.jsonl") == whole and stage.kept == whole[-1]["kept"]
    made = bundle.bundle_hash(hacked / "again/bundle")
    assert made == bundle.bundle_hash(hacked / "hack/bundle")
    # a stopped run stays stopped, whatever it lacks is made
    stage = run(hacked, "again", 2e-3, ckpt=str(hacked / "again/last.ckpt"))
    assert stage.trainer.global_step == whole[-1]["update"] and stage.kept == whole[-1]["kept"]
    assert read_jsonl(hacked / "again/guard/guard.jsonl") == whole
    (hacked / "again/guard/start.safetensors").unlink()
    with pytest.raises(ValueError, match="lacks start.safetensors"):
        run(hacked, "again", 2e-3, ckpt=str(hacked / "again/last.ckpt"))


def test_a_run_that_does_no_harm_is_left_alone(hacked: Path) -> None:
    """Small random steps, nine looks: not stopped, and the weights of the last update are handed on."""
    stage = run(hacked, "sound", 1e-6, steps=18, source="slice", tolerance=0.0)
    rows = read_jsonl(hacked / "sound/guard/guard.jsonl")
    assert len(rows) == 9 and not any(row["stopped"] for row in rows) and stage.kept is None
    assert "kept" not in bundle.read_recipe(hacked / "sound/bundle")["info"]
    assert bundle.bundle_hash(hacked / "sound/bundle") != bundle.bundle_hash(hacked / "start")
    slice_ids = [f"slice-{k:03d}" for k in range(7)]
    assert rows[0]["judges"]["judge"]["n"] == sum(half_of(id) == "choose" for id in slice_ids)


def test_what_no_guard_can_do_is_refused(hacked: Path) -> None:
    for settings, said in (
        ({"every": 0}, "every 0"), ({"spread": (1.1, 1.4)}, "limits below and above 1"), ({"alpha": 1.5}, "alpha 1.5"),
        ({"driving": ["nobody"]}, "nobody is no judge"), ({"driving": ["ear"]}, "a guard needs judges that do not"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            run(hacked, "refused", 1e-3, steps=2, **settings)


def test_the_halves_of_the_prompts_are_fixed_and_about_equal() -> None:
    halves = [half_of(f"prompt {k}") for k in range(1000)]
    assert 450 < halves.count("choose") < 550 and half_of("a") == half_of("a")


def test_the_shipped_guard_goes_over_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    configs = Path(__file__).resolve().parents[1] / "configs"
    stage, guard = (str(configs / f"{name}.yaml") for name in ("stages/crpo", "guards/embedded"))
    assert main(["fit", "--config", stage, "--config", guard, "--print_config"], standalone=False) == 0
    callbacks = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
    assert callbacks[-1]["class_path"].endswith("Guard") and len(callbacks) > 8, "added to those of the stage"
    assert callbacks[-1]["init_args"]["alpha"] == 0.05 and callbacks[-1]["init_args"]["spread"] == [0.6, 1.4]
