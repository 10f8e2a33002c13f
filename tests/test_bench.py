"""The benchmark runs and reports every part; it asserts nothing about speed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fluxlight import losses
from fluxlight.bench import ceilings, goals, levers, metrics, plan, published_way, s44, tiny, training
from fluxlight.bench.__main__ import PARTS, main
from fluxlight.bench.measure import Line, Settings, operations
from fluxlight.bench.networks import S44, TINY, Inputs, Work, make, twin
from fluxlight.guidance import guide
from fluxlight.losses import PolicyLoss, PreferenceLoss
from fluxlight.recorded import names_of
from fluxlight.sample import Sampler

ROOT = Path(__file__).resolve().parents[1]
SMALL = TINY | dict(hidden_dim=32, num_heads=2, depth=3, fused_depth=1, latent_seq_len=24, text_seq_len=7, text_dim=16)


@pytest.fixture
def settings() -> Settings:
    return Settings(repeats=1, ceiling=1e9, yardsticks={"fp32": ceilings.product("cpu", 64, torch.float32)})


def test_a_run_prints_and_writes_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr(ceilings, "SIZES", (256,))
    markdown, numbers = tmp_path / "bench.md", tmp_path / "bench.json"
    flags = ["--only", "network", "--threads", "1", "--repeats", "1"]
    assert main([*flags, "--markdown", str(markdown), "--json", str(numbers)]) == 0
    printed = capsys.readouterr()
    assert markdown.read_text().strip() == printed.out.strip() and "network: forward" in printed.err
    lines = json.loads(numbers.read_text())["lines"]
    assert [line["part"] for line in lines] == ["ceilings"] * 2 + ["network"] * 3 + ["memory"]
    assert len([row for row in printed.out.splitlines() if row.startswith("| ")]) == 2 + len(lines)
    ceiling = lines[0]["flops_per_s"]
    for line in lines[2:5]:
        assert line["share_of_ceiling"] == pytest.approx(line["flops"] / line["seconds"] / ceiling)


def test_unknown_parts_and_devices_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for flags, word in (
        (["--only", "nets"], "nets"),
        (["--threads", "0"], "threads"),
        (["--device", "cuda:9"], "cuda"),
        (["--batches", "4,0"], "whole numbers from 1"),
    ):
        with pytest.raises(SystemExit):
            main(flags)
        assert word in capsys.readouterr().err


def test_every_part_is_a_module_with_lines() -> None:
    import importlib

    for part in ("ceilings", *PARTS):
        assert callable(importlib.import_module(f"fluxlight.bench.{part}").lines)


def test_the_counted_operations_are_the_published_ones() -> None:
    """FACTS section 6: 82.4 GFLOP per forward and clip, 247 per training step, the input projection 13 %."""
    work = Work.of(S44)
    assert work.forward / 1e9 == pytest.approx(82.4, abs=0.6)
    assert work.training / 1e9 == pytest.approx(247, abs=2)
    assert work.input / work.forward == pytest.approx(0.13, abs=0.005)
    # 100 prompts, 25 guided steps: two forwards a step, 413 TFLOP in the published way
    assert 100 * 25 * 2 * work.forward / 1e12 == pytest.approx(413, abs=3)
    assert 0.9 < work.sampling(25) / (25 * 2 * work.forward) < 0.94


def test_a_product_has_two_operations_a_multiply_add() -> None:
    a, b = torch.zeros(3, 5), torch.zeros(5, 7)
    assert operations(lambda: a @ b) == 2 * 3 * 5 * 7


def test_the_published_way_computes_the_same() -> None:
    model = make(SMALL, "cpu")
    data, published = Inputs(model, 2), published_way.channels_first(model)
    assert {id(p) for p in published.parameters()} == {id(p) for p in model.parameters()}
    torch.testing.assert_close(data.forward(published), data.forward(model), atol=5e-5, rtol=0)
    theirs = published_way.generate(published, data.prompts, 3, 5.0)
    torch.testing.assert_close(theirs, Sampler(steps=3).generate(model, data.prompts), atol=2e-4, rtol=0)
    assert theirs.std() > 0.1


def test_a_twin_has_one_set_of_weights() -> None:
    model = make(SMALL, "cpu")
    other, data = twin(model), Inputs(model, 1)
    with torch.no_grad():
        next(iter(model.parameters())).mul_(2)
    assert torch.equal(data.forward(other), data.forward(model))


def test_s44_reports_every_kind_beside_the_published_way(settings: Settings) -> None:
    first, *lines = s44.lines(settings, SMALL)
    assert first.data["flops_forward"] > 0
    kinds = [(line.data["kind"].split(",")[0], line.data["batch"], line.data["way"]) for line in lines]
    names = ("forward", "training step", "sampling")
    assert kinds == [(kind, b, way) for b in (1, 4, 8) for kind in names for way in ("eager", "published")]
    for line in lines:
        achieved = line.data["flops"] / line.data["seconds"]
        assert line.data["share_of_ceiling"] == pytest.approx(achieved / line.data["ceiling"])
        assert line.data["of_published"] == 1 or line.data["way"] == "eager"


def test_the_full_run_has_all_steps_and_the_compiled_way(settings: Settings, monkeypatch) -> None:
    """The compiled way stands in the table; the compiler itself, minutes of work, is left out here."""
    monkeypatch.setattr(s44, "compiled", twin)
    monkeypatch.setattr(s44, "STEPS", 7)
    settings.full = True
    _, *lines = s44.lines(settings, SMALL)
    assert [line.data["way"] for line in lines] == ["eager", "published", "compiled"] * 9
    assert {line.data["batch"] for line in lines} == {1, 4, 8}
    assert not any("steps timed" in line.measured for line in lines)
    work = Work.of(SMALL)
    assert {line.data["flops"] / line.data["batch"] for line in lines if "7 steps" in line.what} == {work.sampling(7)}


def test_batch_sizes_are_chosen_on_the_command_line(settings: Settings) -> None:
    settings.batches = (2,)
    _, *lines = s44.lines(settings, SMALL)
    assert {line.data["batch"] for line in lines} == {2} and len(lines) == 6


def test_a_training_step_is_accounted_for_whole(settings: Settings) -> None:
    settings.batches = (3,)
    *parts, step = training.lines(settings, SMALL)
    keys = {(line.data["phase"], line.data["kind"]) for line in parts}
    products = {(phase, kind) for phase in ("forward", "backward") for kind, _ in training.KINDS}
    assert keys == products | {("forward", training.REST), ("backward", training.REST), ("update", training.UPDATE)}
    seconds, ideal = (sum(line.data[key] for line in parts) for key in ("seconds", "ideal_seconds"))
    assert step.data["seconds"] == pytest.approx(seconds)
    assert step.data["missing_seconds"] == pytest.approx(seconds - ideal)
    assert step.data["share_of_ceiling"] == pytest.approx(ideal / seconds)
    # all operations have their kind: together they are those of three clips
    assert sum(training._flops(SMALL, 3).values()) == 3 * Work.of(SMALL).training


def test_every_goal_of_a_gpu_is_a_line(settings: Settings) -> None:
    """The code that measures them, in fp32 and small: shares and times are of one step each."""
    lines = list(goals.lines(settings, SMALL, batch=2, prompts=2, pairs=1))
    assert {line.part for line in lines} == {"goals"}
    ways = [(line.data["kind"].split(",")[0], line.data["way"], line.data["batch"]) for line in lines[:4]]
    assert ways == [(kind, way, 2) for kind in ("training step", "sampling") for way in ("eager", "published")]
    assert [line.data["bytes"] > 2**20 for line in lines[4:6]] == [True, True]
    stages = {line.data["stage"]: line.data["of_plain"] for line in lines[6:]}
    families = {*names_of(losses, (PreferenceLoss, PolicyLoss))}
    assert families <= set(stages) and stages["flow matching (SFT, expert iteration)"] == 1
    assert all(value > 0 for value in stages.values())


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--gpu", "--threads", "1"]) == 0
    said = capsys.readouterr().out.strip().splitlines()
    assert len(said) == 1 and "no GPU" in said[0]


def test_every_phase_of_the_chain_has_its_share(settings: Settings) -> None:
    lines = list(tiny.lines(settings, clips=1))
    found = {line.data["phase"].split(":")[0]: line.data for line in lines}
    assert set(found) == {"corpus", "store", "reference", "training", "a row", "table"}
    for line in lines:
        assert line.data["share_of_ceiling"] == pytest.approx(line.data["flops"] / line.data["seconds"] / 1e9)
        assert (line.share == "no matrix product") == (line.data["flops"] == 0)
    assert found["training"]["flops"] == tiny.BATCH * Work.of(TINY).training


def test_levers_are_compared_with_all_of_them_on(settings: Settings) -> None:
    lines: list[Line] = list(levers.lines(settings, SMALL))
    by_kind: dict[str, list[Line]] = {}
    for line in lines:
        by_kind.setdefault(line.data["kind"], []).append(line)
    assert [len(found) for found in by_kind.values()] == [7, 7, 3, 2]
    for found in by_kind.values():
        assert found[0].data["of_first"] == 1 and all(line.data["of_first"] > 0 for line in found)


@torch.no_grad()
def test_levers_change_no_result() -> None:
    model = make(SMALL, "cpu")
    data = Inputs(model, 3)
    expected = guide(model, data.condition, 5.0)(data.x, levers.T)
    for name, run in levers._steps(model, data).items():
        torch.testing.assert_close(run(), expected, atol=2e-4, rtol=0, msg=name)


def test_a_table_costs_what_both_lines_say(settings: Settings, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    statistics, evaluation = metrics.lines(settings, resamples=3, clips=2, clip_seconds=1.2)
    assert statistics.data["seconds"] > 0 and "3 resamples" in statistics.what
    assert evaluation.data["times_real_time"] == pytest.approx(2.4 / evaluation.data["seconds"])
    assert "2 clips of 1.2 s" in evaluation.what


def test_median_leaves_out_the_first_run(settings: Settings) -> None:
    calls: list[str] = []
    times = settings.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4 and all(took >= 0 for took in times.values())
    calls.clear()
    settings.alternate({"a": lambda: calls.append("a")}, 2, {"a": lambda: calls.append("a little")})
    assert calls == ["a little", "a", "a"]


def measured(batches: tuple[int, ...], each: float, precision: str = "bf16") -> list[dict]:
    """What the part s44 writes for a device that does a clip in ``each`` seconds, ten times that for sampling."""
    return [
        {"part": "s44", "kind": kind, "batch": batch, "precision": precision, "way": way, "flops": batch * 1e12,
         "seconds": batch * factor * each * (2 if way == "published" else 1)}
        for kind, factor in (("forward", 0.3), ("training step", 1.0), ("sampling, 25 steps", 10.0))
        for batch in batches for way in ("eager", "published")
    ]  # fmt: skip


def test_the_plan_is_the_numbers_of_the_scale_times_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "s44.json", tmp_path / "plan.json"
    path.write_text(json.dumps({"device": "a GPU", "lines": measured((1, 64), 0.01)}))
    words = ["--plan", str(ROOT / "configs/chain/full.yaml"), "--measured", str(path), "--bandwidth", "1e9"]
    assert main([*words, "--json", str(out)]) == 0
    said, found = capsys.readouterr().out, {row["what"]: row["seconds"] for row in json.loads(out.read_text())["steps"]}
    assert "a GPU, bf16" in said and "device-hours" in said and "trunk" not in found
    # 200,000 updates of 64 clips, 0.01 s a clip; on 8 devices 8 clips each, on 64 one
    assert found["row 0"] == pytest.approx([128_000, 16_000, 2_000], rel=1e-3) == found["row 1"]
    # 8 pairs are 16 clips, trained and seen by the reference; more than 8 devices have nothing to do
    assert found["row 4"] == pytest.approx([5_000 * 16 * 0.013, 5_000 * 2 * 0.013, 5_000 * 2 * 0.013], rel=1e-3)
    assert found["candidates for pairs"][0] == pytest.approx(8 * found["candidates for pairs"][1])
    # halving the links' speed costs the gradients' time again, and none on one device
    slow = [*words[:-1], "0.48", "--json", str(out)]
    assert main(slow) == 0
    slower = {row["what"]: row["seconds"] for row in json.loads(out.read_text())["steps"]}["row 0"]
    more = 200_000 * 2 * 7 / 8 * 4 * 120_231_848 / 0.48e9
    assert slower[0] == found["row 0"][0] and slower[1] - found["row 0"][1] == pytest.approx(more, rel=1e-3)


def test_a_plan_without_a_measurement_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "s44.json"
    path.write_text(json.dumps({"lines": [row for row in measured((1,), 1.0) if row["kind"] != "training step"]}))
    for text, word in ((path.read_text(), "no training step of FluxAudio-S"), ("[]", "holds no benchmark")):
        path.write_text(text)
        with pytest.raises(ValueError, match=word):
            main(["--plan", str(ROOT / "configs/chain/full.yaml"), "--measured", str(path)])


def test_seconds_of_a_batch_between_those_measured() -> None:
    times = {1: 2.0, 4: 5.0, 8: 9.0}
    assert [plan.batch_seconds(times, size) for size in (0.5, 1, 2, 4, 6, 16)] == [2, 2, 3, 5, 7, 18]


def test_the_codec_is_counted_where_nothing_is_computed() -> None:
    encode, decode = plan.codec_flops()
    assert 1e11 < encode < decode and plan.t5_flops() / 1e9 == pytest.approx(48, abs=1)
