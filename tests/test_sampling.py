"""Solvers against closed forms, guidance against its formula, noise and clips against batch size."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from test_heads import D, L, T, model_with
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fluxlight.bundle import load_bundle, save_bundle
from fluxlight.guidance import Average, Crossover, JointGuidance, Schedule, SeparateGuidance
from fluxlight.heads import AudioPrepend, GlobalAdaLN
from fluxlight.model import FluxModel
from fluxlight.sample import SOLVERS, Sampler, euler, grid, heun, noise
from fluxlight.second import Second
from fluxlight.types import Condition, PromptBatch

X = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64).reshape(1, 3, 1)


def prompts(n: int) -> PromptBatch:
    draw = torch.Generator().manual_seed(5)
    text, text_c = torch.randn(n, T, 6, generator=draw), torch.randn(n, 7, generator=draw)
    return PromptBatch([f"p{i}" for i in range(n)], ["x"] * n, text, text_c, torch.arange(n) + 42)


@pytest.fixture(scope="module")
def model() -> FluxModel:
    made = model_with(GlobalAdaLN)
    made.set_latent_statistics(torch.arange(D) - 1.5, torch.arange(D) + 0.5)
    made.set_negative(torch.ones(T, 6), -torch.ones(7))
    return made


# solvers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOLVERS)
def test_a_constant_velocity_is_integrated_exactly(name: str) -> None:
    out = SOLVERS[name](lambda x, t: torch.full_like(x, 3.0), X, grid(7))
    torch.testing.assert_close(out, X - 3.0)


def test_a_velocity_linear_in_time() -> None:
    """dx/dt = 2t: Heun is exact, Euler has its known error 1/n."""
    linear = lambda x, t: torch.full_like(x, 2 * t)  # noqa: E731
    torch.testing.assert_close(heun(linear, X, grid(8)), X - 1, atol=1e-7, rtol=0)
    torch.testing.assert_close(euler(linear, X, grid(8)), X - 1 - 1 / 8, atol=1e-7, rtol=0)


@pytest.mark.parametrize(("name", "factor"), [("euler", lambda h: 1 - h), ("heun", lambda h: 1 - h + h * h / 2)])
def test_exponential_decay_has_the_solver_s_own_closed_form(name: str, factor: object) -> None:
    """dx/dt = x from t = 1 to 0: after n steps x factor(1/n)^n, which tends to x / e at the solver's order."""
    errors = []
    for n in (16, 32):
        out = SOLVERS[name](lambda x, t: x, X, grid(n))
        torch.testing.assert_close(out, X * factor(1 / n) ** n, atol=1e-6, rtol=0)  # type: ignore[operator]
        errors.append((out - X / math.e).abs().max().item())
    order = math.log2(errors[0] / errors[1])
    assert order == pytest.approx({"euler": 1, "heun": 2}[name], abs=0.1)


def test_forth_and_back_is_the_start() -> None:
    wave = lambda x, t: torch.sin(5 * t + x)  # noqa: E731
    there = heun(wave, X, grid(400))
    torch.testing.assert_close(heun(wave, there, grid(400, 0.0, 1.0)), X, atol=1e-4, rtol=0)


def test_the_grid_is_the_published_one() -> None:
    assert len(grid(25)) == 26 and grid(25)[0] == 1 and grid(25)[-1] == 0
    assert grid(25)[10] == pytest.approx(0.6)


# guidance --------------------------------------------------------------------------------------------------------


class Counting:
    """A velocity that counts its calls."""

    def __init__(self, value: float) -> None:
        self.value, self.times = value, list[float]()

    def __call__(self, x: Tensor, t: float) -> Tensor:
        self.times.append(t)
        return torch.full_like(x, self.value)


def test_schedules() -> None:
    assert [Schedule().weight(4.0, t) for t in (1.0, 0.5, 0.0)] == [4, 4, 4]
    assert [Schedule("anneal").weight(4.0, t) for t in (1.0, 0.5, 0.0)] == [4, 2.5, 1]
    interval = Schedule("interval", (0.25, 0.75))
    assert [interval.weight(4.0, t) for t in (1.0, 0.75, 0.5, 0.25, 0.0)] == [1, 4, 4, 4, 1]
    for wrong in ((0.8, 0.2), (-0.1, 0.5), (0.5, 1.5)):
        with pytest.raises(ValueError, match="interval"):
            Schedule("interval", wrong)


@torch.no_grad()
def test_joint_guidance_is_its_formula_under_every_schedule(model: FluxModel) -> None:
    batch, x = prompts(3), noise([1, 2, 3], L, D)
    condition = Condition(batch.text, batch.text_c)
    for schedule in (Schedule(), Schedule("anneal"), Schedule("interval", (0.3, 0.6))):
        for t in (0.9, 0.45, 0.1):
            w = schedule.weight(4.0, t)
            real = model.velocity(x, t, condition, torch.full((3,), 2.0))
            expected = w * real + (1 - w) * model.velocity(x, t, model.negative_condition(3))
            for joined in (False, True):
                guided = JointGuidance(model, condition, 2.0, 4.0, schedule=schedule, joined=joined)
                torch.testing.assert_close(guided(x, t), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_outside_the_interval_the_negative_branch_is_not_computed(model: FluxModel) -> None:
    batch, x = prompts(3), noise([1, 2, 3], L, D)
    guided = JointGuidance(model, Condition(batch.text, batch.text_c), 2.0, schedule=Schedule("interval", (0.4, 0.6)))
    runs: list[int] = []
    hook = model.backbone.final_layer.register_forward_hook(lambda *_: runs.append(1))  # type: ignore[union-attr]
    for t, expected in ((0.9, 1), (0.5, 2), (0.1, 1)):
        runs.clear()
        guided(x, t)
        assert len(runs) == expected
    hook.remove()


@torch.no_grad()
def test_separate_weights(model: FluxModel) -> None:
    batch, x, t = prompts(3), noise([1, 2, 3], L, D), 0.6
    condition, scores = Condition(batch.text, batch.text_c), torch.tensor([-1.0, 0.0, 2.0])
    negative = model.velocity(x, t, model.negative_condition(3))
    text, both = model.velocity(x, t, condition), model.velocity(x, t, condition, scores)
    expected = negative + 3 * (text - negative) + 5 * (both - text)
    for joined in (False, True):
        guided = SeparateGuidance(model, condition, scores, weight=3.0, score_weight=5.0, joined=joined)
        torch.testing.assert_close(guided(x, t), expected, atol=1e-4, rtol=0)
    equal = SeparateGuidance(model, condition, scores, weight=4.0, score_weight=4.0)
    torch.testing.assert_close(equal(x, t), JointGuidance(model, condition, scores, 4.0)(x, t), atol=1e-4, rtol=0)


def test_crossover_and_average_are_wrappers() -> None:
    first, second = Counting(1.0), Counting(3.0)
    # 10 steps of 1/10 from t = 1: six times (1.0 .. 0.5) are not below the change, the one at 0.5 is the second's
    out = euler(Crossover(first, second, at=0.45), X, grid(10))
    torch.testing.assert_close(out, X - 0.6 * 1 - 0.4 * 3, atol=1e-6, rtol=0)
    assert min(first.times) > 0.45 >= max(second.times)
    reverse = euler(Crossover(second, first, at=0.45), X, grid(10))
    torch.testing.assert_close(reverse, X - 0.6 * 3 - 0.4 * 1, atol=1e-6, rtol=0)
    torch.testing.assert_close(Average(first, second)(X, 0.3), torch.full_like(X, 2.0))
    torch.testing.assert_close(Average(first, second, weight=0.75)(X, 0.3), torch.full_like(X, 1.5))


# sampler ---------------------------------------------------------------------------------------------------------


def test_noise_depends_on_nothing_but_its_seed() -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    whole = noise(torch.arange(42, 47), L, D)
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator was touched"
    assert torch.equal(torch.cat([noise([42, 43], L, D), noise([44, 45, 46], L, D)]), whole)
    assert torch.equal(noise([45], L, D)[0], whole[3]) and not torch.equal(whole[0], whole[1])
    assert torch.equal(whole[0], torch.randn(L, D, generator=torch.Generator().manual_seed(42)))
    assert abs(noise(range(200), L, D).std().item() - 1) < 0.02
    assert noise([], L, D).shape == (0, L, D)


@pytest.mark.parametrize("method", ["euler", "heun"])
@pytest.mark.parametrize("head", [GlobalAdaLN, AudioPrepend])
def test_any_batch_size_gives_the_same_clips(head: type, method: str) -> None:
    model, batch = model_with(head), prompts(5)
    sampler = Sampler(steps=4, method=method, score=2.0)  # type: ignore[arg-type]
    whole = sampler.generate(model, batch)
    for size in (1, 2, 3):
        torch.testing.assert_close(sampler.generate(model, batch, batch_size=size), whole, atol=1e-4, rtol=0)
    assert whole.shape == (5, L, D) and whole.std() > 0.05


PART = """
import sys, torch
from safetensors.torch import load_file, save_file
from fluxlight.bundle import load_bundle
from fluxlight.sample import Sampler, noise
from fluxlight.types import PromptBatch
bundle, given, out, rank, world, size = *sys.argv[1:4], *map(int, sys.argv[4:])
torch.set_num_threads(1 + rank)
rows = {k: v[rank::world] for k, v in load_file(given).items()}
batch = PromptBatch([str(i) for i in range(len(rows["seed"]))], ["x"] * len(rows["seed"]), **rows)
latents = Sampler(steps=5, score=2.0).generate(load_bundle(bundle), batch, batch_size=size)
save_file({"latents": latents, "noise": noise(batch.seed, *latents.shape[1:])}, out)
"""


def test_two_processes_share_the_prompts(tmp_path: Path) -> None:
    """Each renders every second prompt, in batches and with threads of its own: same noise, same clips."""
    model, batch = model_with(AudioPrepend), prompts(7)
    folder, given = save_bundle(tmp_path / "bundle", model), tmp_path / "prompts.safetensors"
    save_file({"text": batch.text, "text_c": batch.text_c, "seed": batch.seed}, given)
    running = [
        subprocess.Popen([sys.executable, "-c", PART, *map(str, (folder, given, tmp_path / f"{r}", r, 2, 1 + 2 * r))])
        for r in (0, 1)
    ]
    assert [process.wait() for process in running] == [0, 0]
    whole, drawn = Sampler(steps=5, score=2.0).generate(load_bundle(folder), batch), noise(batch.seed, L, D)
    for rank in (0, 1):
        part = load_file(tmp_path / f"{rank}")
        assert torch.equal(part["noise"], drawn[rank::2])
        torch.testing.assert_close(part["latents"], whole[rank::2], atol=1e-4, rtol=0)
    assert (whole[0] - whole[1]).abs().max() > 0.1


def test_an_empty_prompt_means_the_stored_empty_features(model: FluxModel) -> None:
    batch, sampler = prompts(4), Sampler(steps=3)
    whole = sampler.generate(model, batch)
    emptied = sampler.generate(model, replace(batch, prompt=["x", "", " \n", "x"]), batch_size=3)
    stored = model.empty_condition(4)
    expected = sampler.generate(model, replace(batch, text=stored.text, text_c=stored.text_c))
    torch.testing.assert_close(emptied[[1, 2]], expected[[1, 2]], atol=1e-4, rtol=0)
    torch.testing.assert_close(emptied[[0, 3]], whole[[0, 3]], atol=1e-4, rtol=0)
    assert (emptied[1] - whole[1]).abs().max() > 1e-3


class Reading(TorchDispatchMode):
    """Notes every operation that brings a number from the device to the host, and counts all others."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.total = list[str](), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.total += 1
        if func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.equal):
            self.read.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("head", [None, GlobalAdaLN, AudioPrepend])
@torch.no_grad()
def test_a_step_reads_nothing_back_from_the_device(head: type | None) -> None:
    batch = prompts(3)
    guided = JointGuidance(model_with(head), Condition(batch.text, batch.text_c), 2.0)
    x = noise([1, 2, 3], L, D)
    with Reading() as mode:
        euler(guided, x, grid(3))
    assert mode.total > 100 and not mode.read


@torch.no_grad()
def test_conditions_are_projected_once_and_the_input_once_a_step(model: FluxModel) -> None:
    counts: dict[str, int] = {}

    def count(name: str):  # type: ignore[no-untyped-def]
        return lambda *_: counts.__setitem__(name, counts.get(name, 0) + 1)

    names = ("audio_input_proj", "text_input_proj", "text_cond_proj", "final_layer")
    hooks = [getattr(model.backbone, name).register_forward_hook(count(name)) for name in names]
    Sampler(steps=6).generate(model, prompts(4))
    for hook in hooks:
        hook.remove()
    assert counts["audio_input_proj"] == 6, "both branches of guidance share it"
    assert counts["text_input_proj"] == counts["text_cond_proj"] == 2, "one projection a branch and run"
    assert counts["final_layer"] in (6, 12)


def test_generate_is_the_sum_of_its_parts(model: FluxModel) -> None:
    batch = prompts(3)
    guided = JointGuidance(model, Condition(batch.text, batch.text_c), 1.5, 3.0)
    with torch.no_grad():
        x = euler(guided, noise(batch.seed, L, D), grid(5))
    out = Sampler(steps=5, cfg_weight=3.0, score=1.5).generate(model, batch)
    torch.testing.assert_close(out, x * (torch.arange(D) + 0.5) + torch.arange(D) - 1.5, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.unnormalize(model.normalize(out)), out, atol=1e-4, rtol=0)


def test_settings_reach_the_sampling(model: FluxModel) -> None:
    batch = prompts(3)
    base = Sampler(steps=3).generate(model, batch)
    for other in (
        Sampler(steps=3, score=None),
        Sampler(steps=3, cfg_weight=1.0),
        Sampler(steps=3, score_weight=1.0),
        Sampler(steps=3, schedule="anneal"),
        Sampler(steps=3, schedule="interval", interval=(0.1, 0.5)),
        Sampler(steps=3, negative="empty"),
        Sampler(steps=3, method="heun"),
    ):
        assert (other.generate(model, batch) - base).abs().max() > 1e-3, other
    own = Sampler(steps=3).generate(model, batch, scores=torch.tensor([5.0, 1.0, 5.0]))
    torch.testing.assert_close(own[[0, 2]], base[[0, 2]], atol=1e-4, rtol=0)
    assert (own[1] - base[1]).abs().max() > 1e-3


def test_two_checkpoints(model: FluxModel) -> None:
    batch, sampler, other = prompts(3), Sampler(steps=4), model_with(GlobalAdaLN)
    with pytest.raises(ValueError, match="statistics"):
        sampler.generate(model, batch, second=other, combine=Crossover)
    other.set_latent_statistics(torch.arange(D) - 1.5, torch.arange(D) + 0.5)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    alone, others = sampler.generate(model, batch), sampler.generate(other, batch)
    same = sampler.generate(model, batch, second=model, combine=Average)
    torch.testing.assert_close(same, alone, atol=1e-4, rtol=0)
    first_only = sampler.generate(model, batch, second=other, combine=lambda a, b: Crossover(a, b, at=-1.0))
    torch.testing.assert_close(first_only, alone, atol=0, rtol=0)
    for combine in (Crossover, Average, lambda a, b: Crossover(b, a)):
        mixed = sampler.generate(model, batch, second=other, combine=combine)
        assert (mixed - alone).abs().max() > 1e-3 and (mixed - others).abs().max() > 1e-3


def test_a_second_checkpoint_as_a_setting(model: FluxModel, tmp_path: Path) -> None:
    other = model_with(AudioPrepend)
    other.set_latent_statistics(torch.arange(D) - 1.5, torch.arange(D) + 0.5)
    other.set_negative(torch.ones(T, 6), -torch.ones(7))
    folder, batch = str(save_bundle(tmp_path / "other", other)), prompts(3)
    for settings, combine in (
        (dict(), lambda a, b: Crossover(a, b, 0.5)),
        (dict(at=0.3), lambda a, b: Crossover(a, b, 0.3)),
        (dict(combine="reverse"), lambda a, b: Crossover(b, a, 0.5)),
        (dict(combine="average", weight=0.8), lambda a, b: Average(a, b, 0.8)),
    ):
        sampler = Sampler(steps=4, second=Second(folder, **settings))  # type: ignore[arg-type]
        made = sampler.generate(model, batch)
        expected = Sampler(steps=4).generate(model, batch, second=other.eval(), combine=combine)
        torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)
        assert (made - Sampler(steps=4).generate(model, batch)).abs().max() > 1e-3
        plain = json.loads(json.dumps(asdict(sampler)))["second"]
        assert plain["bundle"] == folder and len(plain["hash"]) == 16, "results say which checkpoint took part"
        assert Second(**plain) == sampler.second


def test_a_wrong_second_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    folder = str(save_bundle(tmp_path / "b", model_with(None)))
    for settings, kind, word in (
        (dict(bundle=str(tmp_path / "absent")), FileNotFoundError, "absent"),
        (dict(bundle=folder, combine="mix"), ValueError, "crossover, reverse or average"),
        (dict(bundle=folder, at=1.5), ValueError, "second.at"),
        (dict(bundle=folder, weights="ema"), ValueError, "ema"),
        (dict(bundle=folder, hash="0" * 16), ValueError, "replaced"),
    ):
        with pytest.raises(kind, match=word) as error:
            Second(**settings)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)


def test_progress_counts_every_step(model: FluxModel) -> None:
    seen: list[tuple[int, int]] = []
    Sampler(steps=3).generate(model, prompts(5), batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 9) for i in range(1, 10)]


def test_no_prompts_give_no_latents(model: FluxModel) -> None:
    assert Sampler(steps=2).generate(model, prompts(0)).shape == (0, L, D)


def test_bad_settings_are_one_clear_line(model: FluxModel) -> None:
    for settings, word in ((dict(steps=0), "steps"), (dict(method="rk4"), "method"), (dict(schedule="x"), "schedule")):
        with pytest.raises(ValueError, match=word):
            Sampler(**settings)  # type: ignore[arg-type]
    for name in ("score", "cfg_weight", "score_weight"):
        for value in (float("nan"), float("-inf")):
            with pytest.raises(ValueError, match=f"{name} is .*non-finite"):
                Sampler(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="non-finite"):
        Sampler(steps=2).generate(model, prompts(2), scores=torch.tensor([1.0, float("nan")]))


def test_sampler_on_a_command_line(tmp_path: Path) -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--sampler", type=Sampler, default=Sampler())
    settings = ("steps=10", "score=null", "schedule=interval", "interval=[0.2,0.8]")
    made = parser.instantiate_classes(parser.parse_args([f"--sampler.{s}" for s in settings])).sampler
    assert made == Sampler(steps=10, score=None, schedule="interval", interval=(0.2, 0.8))
    folder = str(save_bundle(tmp_path, model_with(None)))
    flags = ["--sampler.second.bundle", folder, "--sampler.second.combine", "average", "--sampler.second.weight", "0.7"]
    made = parser.instantiate_classes(parser.parse_args(flags)).sampler
    assert made.second == Second(folder, combine="average", weight=0.7)


def test_every_setting_is_reached_from_a_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Flags over a shipped stage YAML, as a user gives them."""
    from fluxlight.cli import main

    folder = str(save_bundle(tmp_path, model_with(None)))
    wanted = Sampler(
        7, "heun", 3.0, 1.5, 2.0, "interval", (0.2, 0.8), "empty", Second(folder, combine="reverse", at=0.3)
    )
    given = asdict(wanted)
    given["interval"], second = list(wanted.interval), given.pop("second")
    flags = [f"--model.sampler.{k}={v}" for k, v in given.items()]
    flags += [f"--model.sampler.second.{k}={second[k]}" for k in ("bundle", "combine", "at")]
    stage = Path(__file__).resolve().parents[1] / "configs/stages/crpo.yaml"
    assert main(["fit", "--config", str(stage), *flags, "--print_config"], standalone=False) == 0
    found = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["sampler"]
    assert {k: found[k] for k in given} == given
    assert {k: found["second"][k] for k in ("bundle", "combine", "at")} == {
        k: second[k] for k in ("bundle", "combine", "at")
    }
