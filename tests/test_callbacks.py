"""Rendering, measuring, keeping: what a validation, a fit and a predict leave behind."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lightning import Callback
from small_world import SmallCodec, SmallJudge, SmallReward, make_data, make_stage, make_trainer, wake
from torch import Tensor

from callbacks import (
    BundleWriter,
    CandidateWriter,
    CLAPCallback,
    DiversityCallback,
    FADCallback,
    KADCallback,
    LastCheckpoint,
    MADCallback,
    PowerEMA,
    RenderSlice,
    RewardCallback,
)
from callbacks.ema import power_average
from fluxlight import bundle
from fluxlight.evaluation.judging import prepare
from fluxlight.files import read_jsonl
from fluxlight.heads import GlobalAdaLN  # type: ignore[attr-defined]
from fluxlight.metrics import Reference, clap_scores, diversity, fad_to, kad, mad
from fluxlight.postprocess import Loudness


def woken(**settings: Any) -> Any:
    stage = make_stage(head=GlobalAdaLN, **settings)
    wake(stage.model, 0.1)
    return stage


def rendered(folder: Path, run: str, callbacks: list[Any], **data: Any) -> Any:
    trainer = make_trainer(folder / run, callbacks)
    trainer.validate(woken(), datamodule=make_data(folder, **data), verbose=False)
    return trainer


def test_the_render_is_the_same_for_any_batch_size_and_draws_nothing_global(tmp_path: Path) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    latents = []
    for size in (3, 7):
        make_data(tmp_path)
        torch.set_rng_state(before[0])
        stage, data = woken(), make_data(tmp_path, slice_batch_size=size)
        torch.set_rng_state(before[0])
        make_trainer(tmp_path / str(size), [RenderSlice(SmallCodec())]).validate(stage, datamodule=data, verbose=False)
        assert torch.equal(torch.get_rng_state(), before[0])
        rows = read_jsonl(tmp_path / str(size) / "slice/candidates.jsonl")
        assert [row["id"] for row in rows] == [f"slice-{k:03d}" for k in range(7)]
        assert [row["seed"] for row in rows] == list(range(42, 49))
        latents.append(np.stack([np.load(tmp_path / str(size) / "slice" / row["latent"]) for row in rows]))
    assert (np.random.get_state()[1] == before[1]).all() and random.getstate() == before[2]
    assert np.allclose(latents[0], latents[1], atol=1e-5) and latents[0].std() > 0.1


class Keep(Callback):
    """Remembers the clips of a rendering; stands after RenderSlice."""

    clips: list[Any] = []

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.clips = list(RenderSlice.of(trainer).clips)


def make_reference(folder: Path) -> tuple[Reference, str]:
    judge, rng = SmallJudge(), np.random.default_rng(0)
    audio = rng.normal(size=(9, 800)) * rng.uniform(0.1, 0.5, size=(9, 1))
    reference = Reference.from_embeddings(judge.embed_audio(audio, 8000), judge.identity, 8000, loudness="locked")
    reference.save(folder / "reference.safetensors")
    return reference, str(folder / "reference.safetensors")


def test_the_callbacks_measure_the_very_files_that_were_written(tmp_path: Path) -> None:
    judge, reward, keep = SmallJudge(), SmallReward(), Keep()
    reference, path = make_reference(tmp_path)
    trainer = rendered(tmp_path, "run", [
        RenderSlice(SmallCodec(), [Loudness()]), keep, FADCallback(judge, path), KADCallback(judge, path),
        MADCallback(judge, path), DiversityCallback(judge), CLAPCallback(judge),
        RewardCallback(reward, batch_size=3), BundleWriter(),
    ])  # fmt: skip
    assert judge.calls == 1, "clips are embedded once, whoever asks"
    rows = read_jsonl(tmp_path / "run/slice/candidates.jsonl")
    waves = torch.stack(
        [torch.from_numpy(soundfile.read(tmp_path / "run/slice" / row["audio"], dtype="float32")[0]) for row in rows]
    )
    assert torch.equal(waves, torch.stack([clip.audio for clip in keep.clips]))
    render = RenderSlice.of(trainer)
    assert not render.clips and not render._cache, "training gets the memory back"
    found = {k: float(v) for k, v in trainer.callback_metrics.items()}
    # as the table hears them: this judge and this reward hear level, and the clips were delivered louder
    waves = torch.stack([torch.from_numpy(prepare(wave.numpy(), 8000, "locked")) for wave in waves])
    embedded = judge.embed_audio(waves, 8000)
    assert found["val/clap"] == pytest.approx(
        float(clap_scores(embedded, judge.embed_text([r["prompt"] for r in rows])).mean()), rel=1e-5
    )
    # the file keeps embeddings in float32, and near its floor a FAD of a few clips shows that
    assert found["val/fad"] == pytest.approx(float(fad_to(embedded, reference.mean, reference.cov)), rel=1e-4)
    assert found["val/kad"] == pytest.approx(kad(embedded, reference.embeddings), rel=1e-3)
    assert found["val/mad"] == pytest.approx(mad(embedded, reference.embeddings), rel=1e-5)
    assert found["val/diversity"] == pytest.approx(diversity(embedded), rel=1e-4)
    assert found["val/reward"] == pytest.approx(float(waves.std(1).mean()), rel=1e-5)
    assert {row["checkpoint"] for row in rows} == {bundle.bundle_hash(tmp_path / "run/bundle")}
    assert rows[0]["extra"]["postprocess"] == ["Loudness"] and rows[0]["extra"]["notes"]


def test_measures_do_not_hear_how_loud_clips_are_delivered(tmp_path: Path) -> None:
    _, path = make_reference(tmp_path)
    found = []
    for k, gain in enumerate((0.1, 3.0)):
        judge, steps = SmallJudge(), [lambda clip, gain=gain: replace(clip, audio=gain * clip.audio)]
        measures = [FADCallback(judge, path), CLAPCallback(judge), RewardCallback(SmallReward())]
        trainer = rendered(tmp_path, f"run{k}", [RenderSlice(SmallCodec(), steps), *measures])
        found.append({k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")})
    assert found[0] == pytest.approx(found[1], rel=1e-2)
    loud = Reference.load(path)
    loud.loudness = "delivered"
    loud.save(tmp_path / "loud.safetensors")
    with pytest.raises(ValueError, match="is at delivered loudness, the clips locked"):
        path = str(tmp_path / "loud.safetensors")
        rendered(tmp_path, "run9", [RenderSlice(SmallCodec()), FADCallback(SmallJudge(), path)])


def test_a_clip_that_is_not_finite_is_a_failed_row_and_not_measured(tmp_path: Path) -> None:
    class Broken(SmallCodec):
        def decode(self, latent: Tensor) -> Tensor:
            audio = super().decode(latent)
            audio[0] = float("nan")
            return audio

    judge, reward = SmallJudge(), SmallReward()
    with pytest.warns(UserWarning, match="clips are not finite and not measured: slice-000"):
        trainer = rendered(tmp_path, "run", [RenderSlice(Broken()), CLAPCallback(judge), RewardCallback(reward)])
    rows = read_jsonl(tmp_path / "run/slice/candidates.jsonl")
    bad = [row for row in rows if row["error"]]
    assert 0 < len(bad) < len(rows) and all("not finite" in row["error"] and not row["audio"] for row in bad)
    assert float(trainer.callback_metrics["val/failed"]) == len(bad)
    assert math.isfinite(float(trainer.callback_metrics["val/reward"]))


def test_the_slice_is_rendered_once_per_fit_unless_asked_more_often(tmp_path: Path) -> None:
    # a run of 8 updates in epochs of 2: after the last, at the end of every other epoch, and within epochs
    for every, times in ((0, 1), (4, 2), (1, 8)):
        counted = []

        class Count(RenderSlice):
            def _write(self, *args: Any, seen: list[int] = counted) -> None:
                seen.append(1)
                super()._write(*args)

        trainer = make_trainer(tmp_path / f"every{every}", [Count(SmallCodec()), CLAPCallback(SmallJudge())])
        trainer.fit(make_stage(render_every=every), datamodule=make_data(tmp_path))
        assert len(counted) == times and "val/clap" in trainer.callback_metrics
    trainer = make_trainer(tmp_path / "odd", [RenderSlice(SmallCodec())])
    with pytest.raises(ValueError, match="render_every is 3 updates .* one must divide the other"):
        trainer.fit(make_stage(render_every=3), datamodule=make_data(tmp_path))


def test_updates_are_counted_when_gradients_accumulate(tmp_path: Path) -> None:
    steps = []

    class Count(RenderSlice):
        def _write(self, run: Path, stage: Any, step: int, everything: list[Any]) -> None:
            steps.append(step)

    trainer = make_trainer(tmp_path, [Count(SmallCodec())], max_steps=6, accumulate_grad_batches=2)
    trainer.fit(make_stage(render_every=3), datamodule=make_data(tmp_path, batches_per_epoch=12))
    assert steps == [3, 6]


def test_order_of_callbacks_is_checked(tmp_path: Path) -> None:
    render, clap = RenderSlice(SmallCodec()), CLAPCallback(SmallJudge())
    for callbacks, says in (
        ([clap, render], "CLAPCallback stands before RenderSlice"),
        ([clap], "none renders it"),
        ([PowerEMA(), render], "put the averaging last"),
        ([PowerEMA(), BundleWriter()], "put the averaging last"),
    ):
        with pytest.raises(ValueError, match=says):
            make_trainer(tmp_path / "run", callbacks).fit(make_stage(), datamodule=make_data(tmp_path))


def test_what_does_not_fit_ends_before_training(tmp_path: Path) -> None:
    other = SmallCodec()
    other.identity = "another-codec"
    with pytest.raises(ValueError, match="was encoded by small-codec, the callbacks decode with another-codec"):
        rendered(tmp_path, "run", [RenderSlice(other)])
    with pytest.raises(FileNotFoundError, match="reference .* does not exist"):
        rendered(tmp_path, "run", [RenderSlice(SmallCodec()), FADCallback(SmallJudge(), "nowhere.safetensors")])
    judge = SmallJudge()
    Reference.from_embeddings(np.random.default_rng(0).normal(size=(9, 3)), "another judge", 8000).save(
        tmp_path / "r.safetensors"
    )
    with pytest.raises(ValueError, match="embedded by another judge"):
        rendered(tmp_path, "run", [RenderSlice(SmallCodec()), FADCallback(judge, str(tmp_path / "r.safetensors"))])


def test_a_bundle_holds_raw_weights_and_averaged_ones_beside_them(tmp_path: Path) -> None:
    stage = make_stage(head=GlobalAdaLN)
    start = {k: v.clone() for k, v in stage.model.state_dict().items()}
    plain = make_stage(head=GlobalAdaLN)
    make_trainer(tmp_path / "plain", [BundleWriter(), LastCheckpoint()]).fit(plain, datamodule=make_data(tmp_path))
    make_trainer(tmp_path / "ema", [BundleWriter(), LastCheckpoint(), PowerEMA(1.0)]).fit(
        stage, datamodule=make_data(tmp_path)
    )
    raw, with_ema, ema = (bundle.load_bundle(tmp_path / run / "bundle", which).state_dict()
                          for run, which in (("plain", "raw"), ("ema", "raw"), ("ema", "ema")))  # fmt: skip
    key = (
        "backbone.audio_input_proj.0.weight"
        if "backbone.audio_input_proj.0.weight" in raw
        else next(k for k in raw if k.endswith("adaLN_modulation.1.weight"))
    )
    assert all(torch.equal(raw[k], with_ema[k]) for k in raw), "averaging must not change training"
    assert not torch.equal(ema[key], raw[key]) and not torch.equal(ema[key], start[key])


def test_the_power_average_weighs_as_the_profile_says() -> None:
    """beta_n = (1 - 1/n)^(1 + gamma) gives update k of n a weight proportional to k^gamma - (k - 1)^..., so that the
    average of 1, 2, ... n tends to n (gamma + 1) / (gamma + 2)."""
    gamma, n = 6.937, 4000
    average = torch.tensor(1.0, dtype=torch.float64)
    for k in range(1, n):
        average = power_average(average, torch.tensor(float(k + 1), dtype=torch.float64), k, gamma)
    assert float(average) == pytest.approx(n * (gamma + 1) / (gamma + 2), rel=2e-3)


def predicted(folder: Path, stage: Any, **candidates: Any) -> list[dict[str, Any]]:
    from fluxlight.data import Candidates

    data = make_data(folder, candidates=Candidates(prompts=4, per_prompt=3, batch_size=5, **candidates))
    make_trainer(folder / "out", [CandidateWriter(SmallCodec())]).predict(
        stage, datamodule=data, return_predictions=False
    )
    return read_jsonl(folder / "out/candidates.jsonl")


def test_candidates_are_completed_by_a_second_call(tmp_path: Path) -> None:
    whole = predicted(tmp_path, woken())
    assert len(whole) == 12 and len({(r["id"], r["seed"]) for r in whole}) == 12
    files = {r["latent"]: (tmp_path / "out" / r["latent"]).read_bytes() for r in whole}
    # a kill in the middle of the second batch's append
    path = tmp_path / "out/candidates.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:6]) + lines[6][:40])
    asked = []
    stage = woken()
    inner = stage.predict_step
    stage.predict_step = lambda batch, batch_idx: (asked.append(len(batch.id)), inner(batch, batch_idx))[1]
    again = predicted(tmp_path, stage)
    assert asked == [5, 2], "the finished batch is not drawn again, the cut one is, as it was planned"
    assert {r["latent"]: (tmp_path / "out" / r["latent"]).read_bytes() for r in again} == files and len(again) == 12
    assert len(predicted(tmp_path, woken())) == 12
    from fluxlight.sample import Sampler

    with pytest.raises(ValueError, match="drawn with .* choose another --trainer.default_root_dir"):
        predicted(tmp_path, woken(sampler=Sampler(steps=3)))


def test_a_clip_that_diverges_is_kept_as_a_failed_row(tmp_path: Path) -> None:
    stage = woken()
    inner = stage.predict_step

    def diverge(batch: Any, batch_idx: int) -> Any:
        latents = inner(batch, batch_idx)
        latents[0] = float("nan")
        return latents

    stage.predict_step = diverge
    rows = predicted(tmp_path, stage)
    assert sum(bool(r["error"]) for r in rows) == 3 and all((r["audio"] == "") == bool(r["error"]) for r in rows)
