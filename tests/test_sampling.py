"""Generation: noise and clips against batch size and process, two checkpoints, and settings."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from small_heads import D, L, T, model_with
from small_sampling import model as model
from small_sampling import prompts
from torch.utils._python_dispatch import TorchDispatchMode

from fluxlight.bundle import load_bundle, save_bundle
from fluxlight.guidance import guide
from fluxlight.guidance.checkpoints import Average, Crossover
from fluxlight.guidance.second import Second
from fluxlight.heads import AudioPrepend, GlobalAdaLN
from fluxlight.model import FluxModel
from fluxlight.sample import Sampler, grid, noise
from fluxlight.solvers import euler
from fluxlight.types import Condition


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
    guided = guide(model_with(head), Condition(batch.text, batch.text_c), 2.0)
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
    guided = guide(model, Condition(batch.text, batch.text_c), 1.5, 3.0)
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
        7, "heun", 3.0, 1.5, 2.0, "interval", (0.2, 0.8), "empty", Second(folder, combine="reverse", at=0.3), -1.0
    )
    given = asdict(wanted)
    given.pop("guidance")  # see test_guidance_kinds.py
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
